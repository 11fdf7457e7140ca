//! Groups chosen by the name in a TLS hello.

use super::{has, sh};
use crate::harness::{BINARY, LISTEN, Polyloop, assert_echo};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, process};

/// A TLS server of OpenSSL with a certificate for one name, which answers HTTP with a page about the connection.
struct TlsServer {
    child: Child,
    addr: String,
}

impl TlsServer {
    fn start(directory: &Path, name: &str) -> Self {
        let file = |end: &str| directory.join(format!("{name}.{end}"));
        let status = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-keyout")
            .arg(file("key"))
            .arg("-out")
            .arg(file("crt"))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-key"])
            .arg(file("key"))
            .arg("-cert")
            .arg(file("crt"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert!(
                stdout.read_line(&mut line).unwrap() > 0,
                "it does not serve"
            );
        }
        let addr = line.trim().rsplit(' ').next().unwrap().to_owned();
        // What it says of each connection finds the pipe open.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self { child, addr }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of one test, gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("polyloop-it-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn tls_goes_where_its_name_says_and_stays_sealed() {
    // Goal: routes by SNI, for real TLS at both ends, and a group for whoever does not speak TLS. Method: two servers of
    // OpenSSL; curl, which accepts only the certificate of the name that it asked for; an echo for all others.
    if !(has("openssl") && has("curl")) {
        return;
    }
    let directory = Directory::new("names");
    let one = TlsServer::start(&directory.0, "one.test");
    let two = TlsServer::start(&directory.0, "two.test");
    let file = directory.0.join("proxy.toml");
    let text = format!(
        "[[listener]]\nname = \"tls\"\nlisten = \"127.0.0.1:0\"\ngroup = \"rest\"\n\n\
         [[listener.route]]\nsni = \"one.test\"\ngroup = \"one\"\n\n\
         [[listener.route]]\nsni = \"*.two.test\"\ngroup = \"two\"\n\n\
         [[listener.route]]\nsni = \"two.test\"\ngroup = \"two\"\n\n\
         [[group]]\nname = \"one\"\nto = [\"{}\"]\n\n[[group]]\nname = \"two\"\nto = [\"{}\"]\n\n\
         [[group]]\nname = \"rest\"\nto = [\"echo\"]\n",
        one.addr, two.addr
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("proxy").args(LISTEN).args(["--loops", "2"]);
    command.arg("--config").arg(&file).stderr(Stdio::piped());
    let server = Polyloop::run(command);
    for name in ["one.test", "two.test", "one.test"] {
        let script = format!(
            "curl -sS --cacert {0}/{name}.crt --resolve {name}:$PORT:127.0.0.1 https://{name}:$PORT/",
            directory.0.display()
        );
        let page = sh(&server, &script);
        assert!(page.contains("s_server"), "{page}");
    }
    let mut plain = server.connect();
    assert_echo(&mut plain);
    drop(plain);
    server.end();
}
