package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/internal/checked"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
)

// format is a form of compression.
type format struct {
	name  string
	magic string
	open  func(data []byte, max int64) (io.Reader, func(), error) // nil: known by name only
	sized bool                                                    // in a kernel's image four bytes with the size follow
}

const (
	maxWindow = 128 << 20 // of xz and zstd: what the kernel's own build uses for itself
	lz4Block  = 8 << 20   // most that a block of the legacy format holds
)

// formats are what scripts/Makefile.lib of the kernel makes, by magic.
var formats = [...]format{
	{name: "xz", magic: "\xfd7zXZ\x00", sized: true, open: func(data []byte, max int64) (io.Reader, func(), error) {
		r, err := xz.NewReader(bytes.NewReader(data), maxWindow)
		return r, nil, err
	}},
	{name: "zstd", magic: "\x28\xb5\x2f\xfd", sized: true, open: func(data []byte, max int64) (io.Reader, func(), error) {
		r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(uint64(max)), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	}},
	{name: "gzip", magic: "\x1f\x8b", open: func(data []byte, max int64) (io.Reader, func(), error) {
		r, err := gzip.NewReader(bytes.NewReader(data))
		return r, nil, err
	}},
	{name: "lz4", magic: "\x02\x21\x4c\x18", sized: true, open: func(data []byte, max int64) (io.Reader, func(), error) {
		return &lz4Legacy{in: data[4:]}, nil, nil
	}},
	{name: "bzip2", magic: "BZh"},
	{name: "lzma", magic: "\x5d\x00\x00"},
	{name: "lzo", magic: "\x89LZO"},
}

func formatOf(data []byte) *format {
	for i := range formats {
		if bytes.HasPrefix(data, []byte(formats[i].magic)) {
			return &formats[i]
		}
	}
	return nil
}

// lz4Legacy reads what lz4 -l writes: blocks, each behind its length.
type lz4Legacy struct {
	in, out []byte
	block   []byte
}

func (r *lz4Legacy) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if len(r.in) == 0 {
			return 0, io.EOF
		}
		if len(r.in) < 4 {
			return 0, io.ErrUnexpectedEOF
		}
		n := le.Uint32(r.in)
		r.in = r.in[4:]
		if uint64(n) > uint64(len(r.in)) {
			return 0, io.ErrUnexpectedEOF
		}
		// No input gives more than 255 times as much.
		size := min(lz4Block, 256*int(min(n, lz4Block))+64)
		if len(r.block) < size {
			r.block = make([]byte, size)
		}
		m, err := lz4.UncompressBlock(r.in[:n], r.block[:size])
		if err != nil {
			return 0, err
		}
		r.in, r.out = r.in[n:], r.block[:m]
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// Decompress gives the contents of a file that may be compressed in one of the
// forms in which kernels and modules are (by its magic), and data itself when it is
// not. The error is a *diag.Error with image-malformed, image-unsupported or
// image-limit.
func Decompress(data []byte, opts Options) ([]byte, error) {
	f := formatOf(data)
	if f == nil {
		return data, nil
	}
	return f.decompress(data, 0, opts)
}

// decompress gives the contents; size is what they should have, 0 when that is not known.
func (f *format) decompress(data []byte, size uint64, opts Options) ([]byte, error) {
	at := diag.Place{File: opts.Name}
	if f.open == nil {
		return nil, problem(diag.ImageUnsupported, at, "compressed with %s", f.name)
	}
	limit := opts.maxSize()
	if size > uint64(limit) {
		return nil, problem(diag.ImageLimit, at, "%d bytes after decompression, limit %d", size, limit)
	}
	r, done, err := f.open(data, limit)
	if err != nil {
		return nil, problem(diag.ImageMalformed, at, "%s: %v", f.name, err)
	}
	if done != nil {
		defer done()
	}
	// Memory is reserved for the size that the file names only when its length makes that believable.
	var out bytes.Buffer
	if size <= 64*uint64(len(data))+1<<20 {
		out.Grow(int(size) + bytes.MinRead)
	}
	n, err := out.ReadFrom(io.LimitReader(r, limit+1))
	switch {
	case n > limit || errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return nil, problem(diag.ImageLimit, at, "more than %d bytes after decompression", limit)
	case err != nil:
		return nil, problem(diag.ImageMalformed, at, "%s: %v, after %d bytes", f.name, err, n)
	case size != 0 && uint64(n) != size:
		return nil, problem(diag.ImageMalformed, at, "%s: %d bytes, the file says %d", f.name, n, size)
	}
	return out.Bytes(), nil
}

// Offsets of the setup header (Documentation/arch/x86/boot.rst).
const (
	hdrSetupSects    = 0x1f1
	hdrBootFlag      = 0x1fe
	hdrMagic         = 0x202
	hdrVersion       = 0x206
	hdrPayloadOffset = 0x248
	hdrPayloadLength = 0x24c
	hdrEnd           = 0x250
	sectorSize       = 512
)

// vmlinux gives the ELF file in a kernel's image.
func vmlinux(data []byte, opts Options) ([]byte, error) {
	at := diag.Place{File: opts.Name}
	data, err := Decompress(data, opts)
	if err != nil || bytes.HasPrefix(data, []byte("\x7fELF")) {
		return data, err
	}
	if len(data) < hdrEnd || string(data[hdrMagic:hdrMagic+4]) != "HdrS" || le.Uint16(data[hdrBootFlag:]) != 0xaa55 {
		return nil, problem(diag.ImageMalformed, at, "neither a bzImage nor an ELF file")
	}
	if v := le.Uint16(data[hdrVersion:]); v < 0x208 {
		return nil, problem(diag.ImageUnsupported, at.At(hdrVersion), "boot protocol %d.%02d; 2.08 (Linux 2.6.26) is the first that says where the kernel is", v>>8, v&0xff)
	}
	sects := uint64(data[hdrSetupSects])
	if sects == 0 {
		sects = 4
	}
	off := (sects+1)*sectorSize + uint64(le.Uint32(data[hdrPayloadOffset:]))
	n := uint64(le.Uint32(data[hdrPayloadLength:]))
	payload, ok := checked.Slice(data, off, n)
	if !ok || n < 8 {
		return nil, problem(diag.ImageMalformed, at.At(hdrPayloadOffset), "the payload, %d bytes at %#x, is not in the file of %d bytes", n, off, len(data))
	}
	f := formatOf(payload)
	size := uint64(0)
	switch {
	case f == nil && bytes.HasPrefix(payload, []byte("\x7fELF")):
		return payload, nil
	case f == nil:
		return nil, problem(diag.ImageUnsupported, at.At(off), "compressed in a form that is not known (% x)", payload[:4])
	case f.sized:
		size = uint64(le.Uint32(payload[n-4:]))
		payload = payload[:n-4]
	}
	out, err := f.decompress(payload, size, opts)
	if err == nil && !bytes.HasPrefix(out, []byte("\x7fELF")) {
		err = problem(diag.ImageMalformed, at.At(off), "the payload is not an ELF file")
	}
	return out, err
}
