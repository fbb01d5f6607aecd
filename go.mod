module github.com/kdelta/kdelta

go 1.26.0

require (
	github.com/ianlancetaylor/demangle v0.0.0-20260724033716-83e58baca724
	github.com/smallstep/pkcs7 v0.2.3
	github.com/stretchr/testify v1.12.1
	golang.org/x/arch v0.32.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
