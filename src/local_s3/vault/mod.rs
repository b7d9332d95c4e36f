//! Keys and ciphers of the embedded S3.
