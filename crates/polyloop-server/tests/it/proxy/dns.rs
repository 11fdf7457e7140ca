//! A name server in the test: it answers from a table that the test changes, over UDP, on a port of its own.
//!
//! Deliberately absent: everything that a resolver does not need to be served. Names are not compressed but by a pointer to the
//! question; a question that is not in the table is answered with "no records".

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is answered to one question.
#[derive(Clone)]
enum Reply {
    /// Records, as they stand in the answer, and how long they hold.
    Records(Vec<Vec<u8>>, u32),
    /// That the server has failed.
    Failure,
}

type Table = Arc<Mutex<HashMap<(String, u16), Reply>>>;

/// The server.
pub(super) struct Dns {
    addr: SocketAddr,
    table: Table,
    is_over: Arc<AtomicBool>,
    is_mute: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// One that hears questions and answers none until it is told to speak.
    pub(super) fn start_mute() -> Self {
        let mute = Self::start();
        mute.is_mute.store(true, Ordering::SeqCst);
        mute
    }

    pub(super) fn speak(&self) {
        self.is_mute.store(false, Ordering::SeqCst);
    }

    pub(super) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let addr = socket.local_addr().unwrap();
        let (table, is_over) = (Table::default(), Arc::new(AtomicBool::new(false)));
        let is_mute = Arc::new(AtomicBool::new(false));
        let thread = {
            let (table, is_over) = (Arc::clone(&table), Arc::clone(&is_over));
            let is_mute = Arc::clone(&is_mute);
            thread::spawn(move || serve(&socket, &table, &is_over, &is_mute))
        };
        Self {
            addr,
            table,
            is_over,
            is_mute,
            thread: Some(thread),
        }
    }

    /// As `--dns` wants it.
    pub(super) fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// From now on a host has these addresses.
    pub(super) fn set_host(&self, host: &str, addrs: &[[u8; 4]], ttl: u32) {
        let records = addrs.iter().map(|addr| Ipv4Addr::from(*addr));
        let records = records.map(|addr| addr.octets().to_vec()).collect();
        self.set(host, TYPE_A, Reply::Records(records, ttl));
    }

    /// From now on a service has these records: priority, weight, port, host.
    pub(super) fn set_service(&self, name: &str, records: &[(u16, u16, u16, &str)], ttl: u32) {
        let record = |&(priority, weight, port, host): &(u16, u16, u16, &str)| {
            let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
            [numbers, wire_name(host)].concat()
        };
        let records = records.iter().map(record).collect();
        self.set(name, TYPE_SRV, Reply::Records(records, ttl));
    }

    /// From now on questions about a name fail, of both families.
    pub(super) fn fail(&self, host: &str) {
        self.set(host, TYPE_A, Reply::Failure);
        self.set(host, TYPE_AAAA, Reply::Failure);
    }

    /// The end of that.
    pub(super) fn mend(&self, host: &str) {
        let mut table = self.table.lock().unwrap();
        table.remove(&(host.to_owned(), TYPE_AAAA));
    }

    fn set(&self, name: &str, kind: u16, reply: Reply) {
        let mut table = self.table.lock().unwrap();
        table.insert((name.to_owned(), kind), reply);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, table: &Table, is_over: &AtomicBool, is_mute: &AtomicBool) {
    let mut query = [0; 512];
    while !is_over.load(Ordering::SeqCst) {
        if let Ok((count, from)) = socket.recv_from(&mut query)
            && !is_mute.load(Ordering::SeqCst)
            && let Some(answer) = answer(&query[..count], table)
        {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a query, or nothing to what is none.
fn answer(query: &[u8], table: &Table) -> Option<Vec<u8>> {
    let mut at = HEADER_BYTES;
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        let label = query.get(at..at + len)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += len;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(HEADER_BYTES..at + 4)?;
    let found = table
        .lock()
        .unwrap()
        .get(&(labels.join("."), kind))
        .cloned();
    let (code, records, ttl) = match found {
        Some(Reply::Records(records, ttl)) => (NO_ERROR, records, ttl),
        Some(Reply::Failure) => (SERVFAIL, Vec::new(), 0),
        None => (NO_ERROR, Vec::new(), 0),
    };
    let count = (records.len() as u16).to_be_bytes();
    // An answer, recursion desired and available; one question, the records, nothing else.
    let mut bytes = [&query[..2], &[0x81, 0x80 | code, 0, 1], &count, &[0; 4]].concat();
    bytes.extend(question);
    for record in records {
        // The name is the question's.
        bytes.extend([0xc0, HEADER_BYTES as u8]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend((record.len() as u16).to_be_bytes());
        bytes.extend(record);
    }
    Some(bytes)
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

const HEADER_BYTES: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const NO_ERROR: u8 = 0;
const SERVFAIL: u8 = 2;
