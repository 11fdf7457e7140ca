//! Programs that people use, through the proxy, with the results that they have without it.

use super::foreign::{Directory, Program, TlsServer, command_of, free_addr, serve, somebody};
use super::{has, proxy, sh};
use crate::harness::{Polyloop, pattern};
use rustix::process::Signal;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Runs a shell command to its end, which must be a good one, in the name of [`somebody`]; its output.
#[track_caller]
fn output(user: Option<(u32, u32)>, script: &str) -> String {
    let output = command_of(user, "timeout")
        .args(["60", "sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn redis_is_the_same_through_the_proxy() {
    // Goal: very many small requests, pipelined and not, are answered as without us. Method: redis-benchmark with nine
    // commands, whose exit code and errors are its own verdict; 20,000 keys sent in one stream by redis-cli --pipe, then
    // read one by one, through the proxy and directly.
    if !(has("redis-server") && has("redis-benchmark") && has("redis-cli")) {
        return;
    }
    let directory = Directory::new("redis");
    let redis = serve("redis-server", |addr| {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &addr.port().to_string(), "--dir"])
            .arg(directory.path());
        command
    });
    let Some((_redis, addr)) = redis else { return };
    let server = proxy(&[addr.to_string()], &[]);
    for pipelined in ["1", "16"] {
        let tests = "ping_mbulk,set,get,incr,lpush,rpop,sadd,hset,mset";
        let script = format!(
            "redis-benchmark -p $PORT -n 3000 -c 30 -d 300 -P {pipelined} -t {tests} --csv 2>&1"
        );
        let said = sh(&server, &script);
        assert!(!said.to_lowercase().contains("error"), "{said}");
        // One line of headings.
        assert_eq!(said.lines().count(), 1 + 9, "{said}");
    }
    let pipe = "seq 20000 | sed 's/.*/SET key:& value:&:&:&/' | redis-cli -p $PORT --pipe";
    let said = sh(&server, pipe);
    assert!(said.contains("errors: 0, replies: 20000"), "{said}");
    let read = "seq 20000 | sed 's/^/GET key:/' | redis-cli -p $PORT";
    let proxied = sh(&server, read);
    assert_eq!(proxied.lines().count(), 20_000);
    assert!(proxied.ends_with("value:20000:20000:20000\n"));
    let direct = output(None, &read.replace("$PORT", &addr.port().to_string()));
    assert!(proxied == direct, "other values than without the proxy");
    server.end();
}

/// Where the programs of PostgreSQL's server are.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| {
        let path = version.ok()?.path().join("bin");
        path.join("initdb").exists().then_some(path)
    });
    programs.max()
}

/// A cluster of PostgreSQL that nobody will miss; `None`, with a message, where there cannot be one.
fn postgres(directory: &Directory, user: Option<(u32, u32)>) -> Option<(Program, SocketAddr)> {
    let Some(programs) = postgres_programs() else {
        eprintln!("skipped: there is no server of PostgreSQL");
        return None;
    };
    if let Some(user) = user {
        directory.give_to(user);
    }
    let data = directory.file("data");
    let init = command_of(user, programs.join("initdb"))
        .args(["--no-sync", "--auth=trust", "--username=tester", "-D"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
    let (program, addr) = serve("postgres", |addr| {
        let mut command = command_of(user, programs.join("postgres"));
        command
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &addr.port().to_string(), "-F"])
            .args(["-c", "unix_socket_directories="]);
        command
    })?;
    // Its fast way to end, with its children.
    Some((program.ends_by(Signal::INT), addr))
}

#[test]
fn a_database_is_the_same_through_the_proxy() {
    // Goal: a protocol in which the server speaks first, with transactions and bulk. Method: a cluster of PostgreSQL made
    // for the test; pgbench fills and uses it through the proxy; every row is then read through the proxy and directly.
    if !(has("pgbench") && has("psql")) {
        return;
    }
    let (directory, user) = (Directory::new("postgres"), somebody());
    let Some((_postgres, addr)) = postgres(&directory, user) else {
        return;
    };
    let server = proxy(&[addr.to_string()], &[]);
    let at = |port: u16| format!("-h 127.0.0.1 -p {port} -U tester");
    let proxied = at(server.addr().port());
    let ready = format!("until psql {proxied} -c 'select 1' postgres; do :; done");
    output(user, &ready);
    output(user, &format!("pgbench {proxied} -i -q -s 1 postgres 2>&1"));
    for protocol in ["simple", "prepared"] {
        let bench = format!("pgbench {proxied} -n -c 8 -j 2 -t 25 -M {protocol} postgres 2>&1");
        let said = output(user, &bench);
        assert!(said.contains("processed: 200/200"), "{said}");
    }
    let read = |at: &str| {
        let rows = "select * from pgbench_accounts order by aid";
        let sums = "select count(*), sum(delta) from pgbench_history";
        output(
            user,
            &format!("psql {at} -At -c '{rows}' -c '{sums}' postgres"),
        )
    };
    let through = read(&proxied);
    assert_eq!(through.lines().count(), 100_000 + 1);
    assert!(through.lines().last().unwrap().starts_with("400|"));
    assert!(through == read(&at(addr.port())), "other rows");
    server.end();
}

/// A server of SSH that lets us in; the options with which it is asked. `None`, with a message, where it cannot run.
fn ssh_server(directory: &Directory) -> Option<(Program, SocketAddr, String)> {
    let is_root = rustix::process::geteuid().is_root();
    // What the package's service makes at its start.
    if is_root && fs::create_dir_all("/run/sshd").is_err() {
        eprintln!("skipped: there is no /run/sshd");
        return None;
    }
    let path = directory.path().display();
    let keys = "for of in host user; do ssh-keygen -q -t ed25519 -N '' -f $of; done";
    output(None, &format!("cd {path} && {keys} && cp user.pub allowed"));
    let config = format!(
        "HostKey {path}/host\nAuthorizedKeysFile {path}/allowed\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
    );
    let file = directory.write("sshd.conf", config);
    let sshd = output(None, "command -v sshd || command -v /usr/sbin/sshd");
    let (program, addr) = serve("sshd", |addr| {
        // It runs itself again for each session, and wants to know where it is.
        let mut command = Command::new(sshd.trim());
        command
            .args(["-D", "-e", "-f"])
            .arg(&file)
            .args(["-o", &format!("ListenAddress {addr}")]);
        command
    })?;
    let options = format!(
        "-F none -i {path}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
         -o IdentitiesOnly=yes -o BatchMode=yes"
    );
    Some((program, addr, options))
}

#[test]
fn a_file_is_the_same_through_ssh_and_the_proxy() {
    // Goal: encrypted bulk, in which every byte counts, and the half-close of a pipe. Method: a server of SSH with keys of
    // its own; scp takes 12 MB there and back, and ssh pipes them through cat; the files are compared.
    if !(has("ssh") && has("scp") && has("ssh-keygen")) {
        return;
    }
    let directory = Directory::new("ssh");
    let Some((_sshd, addr, options)) = ssh_server(&directory) else {
        return;
    };
    let direct = format!("ssh -p {} {options} 127.0.0.1 true", addr.port());
    if Command::new("timeout")
        .args(["30", "sh", "-c", &direct])
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| !status.success())
    {
        eprintln!("skipped: sshd lets nobody in here");
        return;
    }
    let file = directory.write("sent", pattern(12_000_000));
    let server = proxy(&[addr.to_string()], &[]);
    let (sent, path) = (file.display(), directory.path().display());
    let copy = format!(
        "scp -q -P $PORT {options} {sent} 127.0.0.1:{path}/there && cmp {sent} {path}/there && \
         scp -q -P $PORT {options} 127.0.0.1:{path}/there {path}/back && cmp {sent} {path}/back && \
         ssh -p $PORT {options} 127.0.0.1 cat < {sent} | cmp - {sent}"
    );
    sh(&server, &copy);
    server.end();
}

#[test]
fn a_download_over_tls_is_the_same_through_the_proxy() {
    // Goal: TLS passes sealed, from end to end. Method: a server of OpenSSL with a certificate of its own, which is the
    // only one that curl accepts; a file of 5 MB, several times, compared; the certificate shown is the server's.
    if !(has("openssl") && has("curl") && has("cmp")) {
        return;
    }
    let directory = Directory::new("tls");
    let tls = TlsServer::start(&directory, "backend.test", "-WWW");
    let body = directory.write("body", pattern(5_000_000));
    for splice in ["off", "auto"] {
        let server = proxy(std::slice::from_ref(&tls.addr), &["--splice", splice]);
        let get = format!(
            "curl -sS --cacert {} --resolve backend.test:$PORT:127.0.0.1 https://backend.test:$PORT/body | cmp - {}",
            tls.certificate.display(),
            body.display()
        );
        for _ in 0..3 {
            sh(&server, &get);
        }
        let print = "openssl x509 -noout -fingerprint -sha256";
        let shown = sh(
            &server,
            &format!("openssl s_client -connect 127.0.0.1:$PORT 2>&1 </dev/null | {print}"),
        );
        let own = output(None, &format!("{print} -in {}", tls.certificate.display()));
        assert_eq!(shown, own);
        server.end();
    }
}

#[test]
fn iperf3_is_content_through_the_proxy() {
    // Goal: many streams, in each direction and in both at once, none of which stalls. Method: iperf3 with four streams, a
    // fixed number of bytes so that nothing depends on time; its own verdict, and bytes received on every stream.
    if !has("iperf3") {
        return;
    }
    for flags in ["-P 4", "-P 4 -R", "-P 2 --bidir"] {
        let port = free_addr().port().to_string();
        let mut command = Command::new("iperf3");
        command.args(["-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p", &port]);
        let started = Program::start_saying(&mut command, |line| line.contains("listening"));
        let Some((_iperf3, _)) = started else {
            eprintln!("skipped: iperf3 does not start here");
            return;
        };
        // It gives streams their directions in the order in which they reach it. Two loops may connect in another order
        // than clients came, and then both ends wait for each other for ever, behind any proxy.
        let server = proxy(&[format!("127.0.0.1:{port}")], &["--loops", "1"]);
        let said = iperf3(&server, flags);
        let streams = said["end"]["streams"].as_array().unwrap();
        assert_eq!(streams.len(), 4, "{flags}: {said}");
        for stream in streams {
            let bytes = stream["receiver"]["bytes"].as_u64().unwrap();
            assert!(bytes > 0, "{flags}: {stream}");
        }
        server.end();
    }
}

/// What iperf3 says of a run through the proxy.
#[track_caller]
fn iperf3(server: &Polyloop, flags: &str) -> serde_json::Value {
    let script = format!("iperf3 -c 127.0.0.1 -p $PORT -n 64M -J {flags}");
    let said: serde_json::Value = serde_json::from_str(&sh(server, &script)).unwrap();
    assert!(said.get("error").is_none(), "{said}");
    said
}
