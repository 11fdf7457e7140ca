//! Groups chosen by the name in a TLS hello.

use super::foreign::{Directory, TlsServer};
use super::{has, sh};
use crate::harness::{BINARY, LISTEN, Polyloop, assert_echo};
use std::process::{Command, Stdio};

#[test]
fn tls_goes_where_its_name_says_and_stays_sealed() {
    // Goal: routes by SNI, for real TLS at both ends, and a group for whoever does not speak TLS. Method: two servers of
    // OpenSSL; curl, which accepts only the certificate of the name that it asked for; an echo for all others.
    if !(has("openssl") && has("curl")) {
        return;
    }
    let directory = Directory::new("names");
    let one = TlsServer::start(&directory, "one.test", "-www");
    let two = TlsServer::start(&directory, "two.test", "-www");
    let text = format!(
        "[[listener]]\nname = \"tls\"\nlisten = \"127.0.0.1:0\"\ngroup = \"rest\"\n\n\
         [[listener.route]]\nsni = \"one.test\"\ngroup = \"one\"\n\n\
         [[listener.route]]\nsni = \"*.two.test\"\ngroup = \"two\"\n\n\
         [[listener.route]]\nsni = \"two.test\"\ngroup = \"two\"\n\n\
         [[group]]\nname = \"one\"\nto = [\"{}\"]\n\n[[group]]\nname = \"two\"\nto = [\"{}\"]\n\n\
         [[group]]\nname = \"rest\"\nto = [\"echo\"]\n",
        one.addr, two.addr
    );
    let file = directory.write("proxy.toml", text);
    let mut command = Command::new(BINARY);
    command.arg("proxy").args(LISTEN).args(["--loops", "2"]);
    command.arg("--config").arg(&file).stderr(Stdio::piped());
    let server = Polyloop::run(command);
    for name in ["one.test", "two.test", "one.test"] {
        let script = format!(
            "curl -sS --cacert {0}/{name}.crt --resolve {name}:$PORT:127.0.0.1 https://{name}:$PORT/",
            directory.path().display()
        );
        let page = sh(&server, &script);
        assert!(page.contains("s_server"), "{page}");
    }
    let mut plain = server.connect();
    assert_echo(&mut plain);
    drop(plain);
    server.end();
}
