//! tls_hello.
