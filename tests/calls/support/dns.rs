//! A DNS server on loopback with the records that a test gives it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// Seconds for which an answer may be believed.
const LIFE: u32 = 60;

#[derive(Default)]
struct Zone {
    records: Vec<Record>,
    asked: HashMap<String, usize>,
    silent: bool,
}

/// The server, for as long as it is held.
pub(crate) struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    over: Arc<AtomicBool>,
}

impl DnsServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        let server = Self {
            address: socket.local_addr().expect("bound"),
            zone: Arc::default(),
            over: Arc::default(),
        };
        let (zone, over) = (Arc::clone(&server.zone), Arc::clone(&server.over));
        std::thread::spawn(move || serve(&socket, &zone, &over));
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn naptr(self, domain: &str, order: u16, service: &str, servers: &str) -> Self {
        let data = NAPTR::new(
            order,
            10,
            (*b"s").into(),
            service.as_bytes().into(),
            Box::default(),
            name(servers),
        );
        self.record(domain, RData::NAPTR(data))
    }

    pub(crate) fn srv(
        self,
        service: &str,
        priority: u16,
        weight: u16,
        port: u16,
        host: &str,
    ) -> Self {
        let data = SRV::new(priority, weight, port, name(host));
        self.record(service, RData::SRV(data))
    }

    pub(crate) fn address_of(self, host: &str, address: &str) -> Self {
        let data = match address.parse().expect("an address") {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.record(host, data)
    }

    /// From now on it answers nothing.
    pub(crate) fn silent(self) -> Self {
        self.zone.lock().expect("lock").silent = true;
        self
    }

    /// How often anything was asked about a name.
    pub(crate) fn asked(&self, about: &str) -> usize {
        let zone = self.zone.lock().expect("lock");
        zone.asked.get(&format!("{about}.")).copied().unwrap_or(0)
    }

    fn record(self, owner: &str, data: RData) -> Self {
        let record = Record::from_rdata(name(owner), LIFE, data);
        self.zone.lock().expect("lock").records.push(record);
        self
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn name(text: &str) -> Name {
    format!("{}.", text.trim_end_matches('.'))
        .parse()
        .expect("a name")
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>, over: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Ok(query) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        if let Some(answer) = answer(&query, &mut zone.lock().expect("lock")) {
            let bytes = answer.to_vec().expect("encoded");
            let _ = socket.send_to(&bytes, from);
        }
    }
}

fn answer(query: &Message, zone: &mut Zone) -> Option<Message> {
    let question = query.queries.first()?;
    let about = question.name().to_lowercase();
    *zone.asked.entry(about.to_string()).or_default() += 1;
    if zone.silent {
        return None;
    }
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.add_query(question.clone());
    let known: Vec<&Record> = zone
        .records
        .iter()
        .filter(|record| record.name == about)
        .collect();
    if known.is_empty() {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    for record in known {
        if record.record_type() == question.query_type() {
            answer.add_answer(record.clone());
        }
    }
    Some(answer)
}
