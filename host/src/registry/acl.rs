//! Who may read and change the cluster's nodes in ZooKeeper.

use zookeeper_client as zookeeper;

use super::access::{Access, REMEDY, refused};
use super::answer::{self, again};
use super::cluster::Cluster;
use crate::error::{Code, Error, Result};

/// What [`Cluster::close`] did.
#[derive(Debug, Default)]
pub struct Closed {
    pub nodes: usize,
    /// Of them, those that others could read or change before.
    pub changed: usize,
}

impl Cluster {
    /// Who this process is to ZooKeeper, for messages.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// `Configure` if ZooKeeper has not taken this session for whom it says it is: a
    /// server without SASL, for example, lets whoever asks for it pass as nobody.
    pub(crate) async fn check_identity(&self) -> Result<()> {
        if !self.access.is_known() {
            return Ok(());
        }
        let users = match again(|| self.client.list_auth_users()).await {
            Ok(users) => users,
            // Before 3.7 nobody could ask.
            Err(zookeeper::Error::Unimplemented) => return Ok(()),
            Err(error) => return Err(self.explain("/", &error)),
        };
        let missing = self.access.identities().find(|(_, scheme)| !users.iter().any(|user| user.scheme() == *scheme));
        let Some((identity, scheme)) = missing else { return Ok(()) };
        let remedy = match scheme {
            "sasl" => "it has no SASL: set authProvider.sasl and a JAAS section `Server` with this user on every server, or use digest:",
            "x509" => "it asks for no certificate: set ssl.clientAuth to need on every server, or leave --zookeeper-tls-cert out",
            _ => "it does not know the scheme: see authProvider of its configuration, or use sasl:",
        };
        Err(Error::configure(Code::RegistryDenied, format!("ZooKeeper at {:?} takes no notice of {identity}: {remedy}", self.hosts)))
    }

    /// Names an error of ZooKeeper about a node by what to do next.
    pub(crate) fn explain(&self, path: &str, error: &zookeeper::Error) -> Error {
        let (hosts, access) = (&self.hosts, &self.access);
        match error {
            zookeeper::Error::NoAuth => {
                Error::configure(Code::RegistryDenied, format!("ZooKeeper at {hosts:?} keeps {access} from the node {path}: {REMEDY}"))
            }
            zookeeper::Error::AuthFailed => Error::configure(Code::RegistryDenied, refused(hosts, access)),
            zookeeper::Error::InvalidAcl => Error::configure(
                Code::RegistryDenied,
                format!(
                    "ZooKeeper at {hosts:?} has taken {access} for nobody whom the ACL of {path} could name: see that the servers know the user, or the CA of the certificate"
                ),
            ),
            other => answer::explain(other).context(format!("ZooKeeper at {hosts:?}")),
        }
    }

    /// Says it if the cluster's nodes may be read or changed by whoever reaches ZooKeeper.
    pub async fn tell_if_open(&self) -> Result<()> {
        if self.is_open(&self.path()).await? {
            let remedy = if self.access.is_known() {
                "run `cluster upgrade` with these credentials"
            } else {
                "give every process credentials (--zookeeper-auth-file), then run `cluster upgrade`"
            };
            tracing::warn!(
                "the cluster {:?} in ZooKeeper at {:?} is open to whoever reaches it, to read and to change: {remedy}",
                self.name,
                self.hosts
            );
        }
        Ok(())
    }

    /// Whether others than the users whom its ACL names may read or change the node; not
    /// if there is none.
    pub(crate) async fn is_open(&self, path: &str) -> Result<bool> {
        let found = self.found(path, again(|| self.client.get_acl(path)).await)?;
        Ok(found.is_some_and(|(acls, _)| is_open(&acls)))
    }

    /// Whether nobody but this process's identities can have written the change in flight
    /// of `name`.
    pub(crate) async fn is_ours(&self, name: &str) -> Result<bool> {
        let mut open = !self.access.is_known();
        for path in [self.path(), self.all_pending_path(), self.pending_path(name)] {
            open = open || self.is_open(&path).await?;
        }
        Ok(!open)
    }

    /// Lets this process's identities alone read and change all nodes of the cluster.
    /// `None` if it has none. Changes in flight stay open, or become it: whoever wrote them while
    /// all was open is not to pass for us.
    pub async fn close(&self) -> Result<Option<Closed>> {
        if !self.access.is_known() {
            return Ok(None);
        }
        let mut closed = Closed::default();
        let mut paths = vec![self.path()];
        // Each node before those below it: nothing open is made there any more.
        while let Some(path) = paths.pop() {
            let Some((before, _)) = self.found(&path, again(|| self.client.get_acl(&path)).await)? else { continue };
            let set = again(|| self.client.set_acl(&path, &self.access.acls(), None)).await;
            let Some(_) = self.found(&path, set)? else { continue };
            let after = self.found(&path, again(|| self.client.get_acl(&path)).await)?;
            closed.nodes += 1;
            closed.changed += usize::from(after.is_some_and(|(after, _)| after != before));
            if path == self.all_pending_path() {
                if closed.changed > 0 {
                    self.disown(&path).await?;
                }
                continue;
            }
            paths.extend(self.children(&path).await?.unwrap_or_default().into_iter().map(|name| format!("{path}/{name}")));
        }
        Ok(Some(closed))
    }

    /// Whoever made a node while all was open chose its ACL, and may have chosen one that looks
    /// like ours.
    async fn disown(&self, pending: &str) -> Result<()> {
        for name in self.children(pending).await?.unwrap_or_default() {
            let path = format!("{pending}/{name}");
            let opened = again(|| self.client.set_acl(&path, &zookeeper::Acls::anyone_all(), None)).await;
            if matches!(opened, Err(zookeeper::Error::NoAuth)) {
                // Nor could we read it, and one that cannot be read holds up all commands.
                match again(|| self.client.delete(&path, None)).await {
                    Ok(()) => tracing::warn!("the node {path}, a change in flight that only somebody else could read, was deleted"),
                    Err(error) => tracing::warn!(
                        %error,
                        "the node {path}, a change in flight that only somebody else can read, cannot be deleted: let ZooKeeper's superuser do it"
                    ),
                }
                continue;
            }
            self.found(&path, opened)?;
        }
        Ok(())
    }
}

fn is_open(acls: &[zookeeper::Acl]) -> bool {
    acls.iter().any(|acl| matches!(acl.scheme(), "world" | "ip") && acl.permission() != zookeeper::Permission::NONE)
}
