package module

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func pair(t *testing.T, key crypto.Signer) (keyPEM, certPEM []byte) {
	t.Helper()
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "kdelta test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	k, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestSign(t *testing.T) {
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ek, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]crypto.Signer{"rsa": rk, "ecdsa": ek} {
		t.Run(name, func(t *testing.T) {
			keyPEM, certPEM := pair(t, key)
			s, err := ParseSigner(keyPEM, certPEM)
			require.NoError(t, err)
			mod := []byte("not really a module")
			out, err := Sign(mod, s)
			require.NoError(t, err)
			assert.True(t, Signed(out))
			assert.False(t, Signed(mod))
			_, err = Sign(out, s)
			assert.Error(t, err, "signed twice")

			end := len(out) - len(signatureMark)
			info := out[end-signatureInfo : end]
			assert.Equal(t, []byte{0, 0, 2, 0, 0, 0, 0, 0}, info[:8])
			n := int(binary.BigEndian.Uint32(info[8:]))
			sig := out[end-signatureInfo-n : end-signatureInfo]
			require.Equal(t, mod, out[:len(out)-len(signatureMark)-signatureInfo-n])
			p, err := pkcs7.Parse(sig)
			require.NoError(t, err)
			assert.Empty(t, p.Content, "detached")
			p.Content = mod
			p.Certificates = []*x509.Certificate{s.Cert}
			require.NoError(t, p.Verify())
			p.Content = []byte("another module")
			require.Error(t, p.Verify())

			openssl, err := exec.LookPath("openssl")
			if err != nil {
				t.Skip("no openssl")
			}
			dir := t.TempDir()
			for f, d := range map[string][]byte{"mod": mod, "sig": sig, "cert": certPEM} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, f), d, 0o600))
			}
			cmd := exec.Command(openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", "sig", "-content", "mod", "-certfile", "cert", "-nointern", "-noverify", "-out", "out")
			cmd.Dir = dir
			msg, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", msg)
		})
	}
}

func TestParseSignerErrors(t *testing.T) {
	a, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	b, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	keyA, certA := pair(t, a)
	_, certB := pair(t, b)
	for _, c := range []struct {
		key, cert []byte
		want      string
	}{
		{nil, certA, "no private key"},
		{certA, certA, "no private key"},
		{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), certA, "the signing key"},
		{pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), certA, "encrypted"},
		{keyA, []byte("nothing"), "the certificate"},
		{keyA, certB, "not that of the signing key"},
	} {
		_, err := ParseSigner(c.key, c.cert)
		assert.ErrorContains(t, err, c.want)
	}
	old, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, a.Public(), a)
	require.NoError(t, err)
	_, err = ParseSigner(keyA, old)
	assert.ErrorContains(t, err, "the year 1", "no dates")
	block, _ := pem.Decode(certA)
	_, err = ParseSigner(keyA, block.Bytes)
	assert.NoError(t, err, "DER")
}
