//! From a name to addresses that may be dialled. What is checked here is what is dialled:
//! nobody asks for the name a second time.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::address::{Network, special};
use super::host::Host;
use super::origin::Server;
use super::refusal::{Code, Refusal, Result};

/// The addresses of a name.
pub type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks names up.
pub trait Resolve: Debug + Send + Sync {
    fn resolve(&self, name: &str) -> Addresses;
}

/// Names that are looked up at one time, by one plugin and by all: each takes a thread, which
/// cannot be told that nobody waits for it any more.
const LOOKUPS_OF_PLUGIN: usize = 2;
static LOOKUPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(16)));

/// As the machine is set up.
#[derive(Debug)]
pub struct System {
    places: Arc<Semaphore>,
}

impl System {
    pub fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(LOOKUPS_OF_PLUGIN)) }
    }
}

impl Resolve for System {
    fn resolve(&self, name: &str) -> Addresses {
        let (name, places) = (name.to_owned(), Arc::clone(&self.places));
        Box::pin(async move {
            let own = places.acquire_owned().await.map_err(io::Error::other)?;
            let place = Arc::clone(&LOOKUPS).acquire_owned().await.map_err(io::Error::other)?;
            let look = move || {
                // Until the thread is done, whoever waits for it.
                let _places = (own, place);
                (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            };
            tokio::task::spawn_blocking(look).await.map_err(io::Error::other)?
        })
    }
}

/// Of one name, at most.
const ADDRESSES_MAX: usize = 16;

/// Connects to a server that is granted, at an address that may be dialled, before `until`.
pub async fn dial(server: &Server, granted: &[Network], resolver: &dyn Resolve, until: Instant) -> Result<TcpStream> {
    let addresses = allowed(server, granted, resolver, until).await?;
    let mut last = Refusal::new(Code::ConnectionTimeout, format!("{server} took no connection in time"));
    for (tried, address) in addresses.iter().enumerate() {
        // Each gets its share of the time that is left.
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(SocketAddr::new(*address, server.port))).await {
            Ok(Ok(stream)) => {
                // A small request must not wait for the acknowledgement of the one before.
                _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = refused(server, &error),
            Err(_) => {}
        }
    }
    Err(last)
}

fn refused(server: &Server, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::TimedOut => Code::ConnectionTimeout,
        _ => Code::ConnectionRefused,
    };
    Refusal::new(code, format!("{server} cannot be reached: {error}"))
}

/// The addresses of a server that may be dialled: at least one.
async fn allowed(server: &Server, granted: &[Network], resolver: &dyn Resolve, until: Instant) -> Result<Vec<IpAddr>> {
    let name = match &server.host {
        // It is granted by number: the origin names it.
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name,
    };
    let left: Duration = until.saturating_duration_since(Instant::now());
    let found = match timeout(left, resolver.resolve(name)).await {
        Err(_) => return Err(Refusal::new(Code::DnsTimeout, format!("no answer in time to where {name} is"))),
        Ok(Err(error)) => return Err(Refusal::new(Code::DnsError, format!("no address of {name} is found: {error}"))),
        Ok(Ok(found)) if found.is_empty() => return Err(Refusal::new(Code::DnsError, format!("{name} has no address"))),
        Ok(Ok(found)) => found,
    };
    let mut allowed: Vec<IpAddr> = Vec::new();
    let mut prohibited = None;
    for address in found {
        match special(address) {
            Some(what) if !granted.iter().any(|network| network.contains(address)) => prohibited = prohibited.or(Some((address, what))),
            _ if allowed.contains(&address) || allowed.len() == ADDRESSES_MAX => {}
            _ => allowed.push(address),
        }
    }
    match prohibited {
        Some((address, what)) if allowed.is_empty() => Err(Refusal::misconfigured(
            Code::Prohibited,
            format!("{server} is at {address}, {what}, which is dialled only if it is granted by number: addresses: [\"{address}\"]"),
        )),
        _ => Ok(allowed),
    }
}
