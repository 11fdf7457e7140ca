//! Asks the DNS. It blocks: for a thread of the offload pool.
//!
//! The one idea: each look-up begins anew, with the name servers and the hosts file as they are at that moment, in a runtime
//! of its own that is gone when it has ended. Nothing is kept from one look-up to the next, so nothing is stale, no
//! descriptor is held between them, and threads share nothing. That costs a few file reads at most once a second and name.
//!
//! `/etc/hosts` comes before the DNS, as nearly everywhere; `localhost` is never asked for.
//!
//! Deliberately absent: `nsswitch.conf` (mDNS, LDAP, NIS), which only the system's own resolver knows, and which tells no TTL:
//! see docs/decisions/0012. A cache: what holds for how long is [`names`](polyloop_proxy::names)' concern.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use polyloop_proxy::names::{Answer, Found, Record};
use polyloop_proxy::settings::Target;

/// Who is asked.
#[derive(Debug)]
pub(super) struct Resolver {
    /// If empty, those of `/etc/resolv.conf`.
    servers: Vec<SocketAddr>,
}

impl Resolver {
    pub(super) const fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// Looks a target up, within [`LOOK_UP_MAX`].
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(super) fn look_up(&self, target: &Target) -> Result<Answer, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no look-up can be begun: {error}"))?;
        runtime.block_on(async {
            let asked = async {
                let resolver = self.resolver()?;
                match target {
                    Target::Name { host, .. } => host_answer(&resolver, host).await,
                    Target::Srv { name } => service_answer(&resolver, name).await,
                    Target::Addr(_) | Target::Unix(_) | Target::Echo => {
                        Err("this is no name".to_owned())
                    }
                }
            };
            match tokio::time::timeout(LOOK_UP_MAX, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", LOOK_UP_MAX.as_secs())),
            }
        })
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                // Names of the hosts file are found without servers.
                tracing::debug!("/etc/resolv.conf: {error}");
                TokioResolver::builder_with_config(
                    ResolverConfig::default(),
                    TokioRuntimeProvider::default(),
                )
            })
        } else {
            let servers = self.servers.iter().map(server).collect();
            TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(servers),
                TokioRuntimeProvider::default(),
            )
        };
        let mut builder = builder;
        bound(builder.options_mut());
        builder
            .build()
            .map_err(|error| format!("no look-up can be begun: {error}"))
    }
}

fn server(addr: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = addr.port();
        connection
    });
    NameServerConfig::new(addr.ip(), true, connections.into())
}

/// Both families, and times within which a second server is asked too.
fn bound(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(TRY_MAX);
    options.attempts = options.attempts.min(ATTEMPTS_MAX);
}

async fn host_answer(resolver: &TokioResolver, host: &str) -> Result<Answer, String> {
    let (addrs, valid_until) = addresses(resolver, host).await?;
    Ok(Answer {
        found: Found::Addresses(addrs),
        ttl: left(valid_until),
    })
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<(Vec<IpAddr>, Instant), String> {
    let found = resolver.lookup_ip(host).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok((found.iter().collect(), found.valid_until()))
}

/// A service's records, and the addresses of their hosts. It holds as long as what holds shortest.
async fn service_answer(resolver: &TokioResolver, name: &str) -> Result<Answer, String> {
    let found = resolver.srv_lookup(name).await;
    let found = found.map_err(|error| error.to_string())?;
    let mut valid_until = found.valid_until();
    let services = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            // A lone dot says: not here.
            RData::SRV(service) if !service.target.is_root() && service.port > 0 => Some(service),
            _ => None,
        });
    let mut records = Vec::new();
    let mut failure = None;
    for service in services.take(RECORDS_MAX) {
        let record = record_of(service);
        match addresses(resolver, &record.host).await {
            Ok((addrs, until)) => {
                valid_until = valid_until.min(until);
                records.push(Record { addrs, ..record });
            }
            Err(error) => {
                failure = Some(format!("{}: {error}", record.host));
                records.push(record);
            }
        }
    }
    match failure {
        Some(error) if records.iter().all(|record| record.addrs.is_empty()) => Err(error),
        // One host of several that cannot be found is asked for again soon.
        Some(error) => {
            tracing::warn!("service {name}: {error}; its last addresses stay");
            Ok(Answer {
                found: Found::Records(records),
                ttl: left(valid_until).min(HALF_ANSWER_TTL),
            })
        }
        None => Ok(Answer {
            found: Found::Records(records),
            ttl: left(valid_until),
        }),
    }
}

fn record_of(service: &SRV) -> Record {
    Record {
        host: service.target.to_ascii(),
        port: service.port,
        priority: service.priority,
        weight: service.weight,
        addrs: Vec::new(),
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// The longest look-up, whatever `/etc/resolv.conf` says of timeouts: the pool has few threads.
const LOOK_UP_MAX: Duration = Duration::from_secs(10);
/// The longest wait for one server: a lost packet is noticed, a slow server still heard.
const TRY_MAX: Duration = Duration::from_secs(2);
const ATTEMPTS_MAX: usize = 2;
/// Records of one service whose hosts are looked up: eight times the slots it has by default.
const RECORDS_MAX: usize = 64;
/// When to ask again for the rest of a service.
const HALF_ANSWER_TTL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_every_host_knows_is_found_without_servers() {
        // Goal: /etc/hosts and localhost need no DNS. Method: a server that nobody is at.
        let resolver = Resolver::new(vec![([127, 0, 0, 1], 9).into()]);
        let target = Target::Name {
            host: "localhost".to_owned(),
            port: 1,
        };
        let answer = resolver.look_up(&target).unwrap();
        let Found::Addresses(addrs) = answer.found else {
            panic!("{answer:?}");
        };
        assert!(
            !addrs.is_empty() && addrs.iter().all(IpAddr::is_loopback),
            "{addrs:?}"
        );
        let is_none = resolver.look_up(&Target::Echo).is_err();
        assert!(is_none);
    }
}
