package module

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// A signed module ends with its signature, a description of 12 bytes whose last
// four are the signature's length, and this text
// (Documentation/admin-guide/module-signing.rst, include/linux/module_signature.h).
const signatureMark = "~Module signature appended~\n"

const (
	signatureInfo  = 12
	signaturePKCS7 = 2 // id_type
)

// Signer is a key with its certificate.
type Signer struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// ParseSigner reads a private key (PEM: PKCS#1, PKCS#8 or SEC 1; not encrypted) and
// its certificate (PEM or DER). The error says which of the two cannot be read, or that they do not belong together.
func ParseSigner(key, cert []byte) (*Signer, error) {
	s := &Signer{}
	for rest := key; s.Key == nil; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, errors.New("the signing key: no private key in PEM form")
		}
		var k any
		var err error
		switch b.Type {
		case "PRIVATE KEY":
			k, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case "RSA PRIVATE KEY":
			k, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case "EC PRIVATE KEY":
			k, err = x509.ParseECPrivateKey(b.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the signing key is encrypted: give it without a passphrase")
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the signing key: %w", err)
		}
		var ok bool
		if s.Key, ok = k.(crypto.Signer); !ok {
			return nil, fmt.Errorf("the signing key: %T cannot sign", k)
		}
	}
	der := cert
	for rest := cert; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			der = b.Bytes
			break
		}
	}
	var err error
	if s.Cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	// The kernel reads dates from 1970 to 9999 (crypto/asymmetric_keys), and takes a signature with any other for damaged.
	if y := s.Cert.NotBefore.Year(); y < 1970 || s.Cert.NotAfter.Year() > 9999 {
		return nil, fmt.Errorf("the certificate is valid from the year %d on, which the kernel cannot read", y)
	}
	pub, ok := s.Cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(s.Key.Public()) {
		return nil, errors.New("the certificate is not that of the signing key")
	}
	return s, nil
}

// Sign gives a module with a signature appended: PKCS#7 without attributes and
// certificates, SHA-256, as the kernel's own sign-file makes it. The kernel must have
// the certificate, among its own or the machine owner's. A module that is signed already is refused.
func Sign(module []byte, s *Signer) ([]byte, error) {
	if Signed(module) {
		return nil, errors.New("the module has a signature already")
	}
	d, err := pkcs7.NewSignedData(module)
	if err != nil {
		return nil, err
	}
	d.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := d.SignWithoutAttr(s.Cert, s.Key, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	d.Detach()
	sig, err := d.Finish()
	if err != nil {
		return nil, err
	}
	out := append(bytes.Clone(module), sig...)
	info := [signatureInfo]byte{2: signaturePKCS7}
	n := uint32(len(sig))
	info[8], info[9], info[10], info[11] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	out = append(out, info[:]...)
	return append(out, signatureMark...), nil
}

// Signed reports whether a module ends with a signature, whoever made it.
func Signed(module []byte) bool { return bytes.HasSuffix(module, []byte(signatureMark)) }
