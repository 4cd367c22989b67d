module github.com/logcore/logcore/tools/s3gateway

go 1.26

require github.com/versity/versitygw v1.8.0 // indirect
