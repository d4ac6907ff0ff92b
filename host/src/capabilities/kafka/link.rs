//! The interface `kafka`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Resource;

use super::brokers::Brokers;
use super::client::Place;
use super::consumer::{self, Consumer};
use super::failure as backend;
use super::grant::{self, Properties};
use super::producer::Producer;
use super::topic;
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::grants::{Resources, granted};
use crate::capabilities::role::Role;
use crate::capabilities::shared::Shared;
use crate::ports::Messages;
use crate::yaml::{Field, Problem, Sources};
use generated::pgshovel::plugin::kafka::{self, Entries, Failure, Host, HostConsumer, HostProducer};

#[allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package pgshovel:host;

            world host {
                import pgshovel:plugin/kafka@0.2.0;
            }
        ",
        imports: { default: async | trappable },
        with: {
            "pgshovel:plugin/kafka.consumer": crate::capabilities::kafka::consumer::Consumer,
            "pgshovel:plugin/kafka.producer": crate::capabilities::kafka::producer::Producer,
        },
    });
}

/// Producers and consumers of one plugin, those that are being let go of included: each has
/// some threads, and holds up to 32 MiB.
const CLIENTS_MAX: usize = 4;

/// What an instance has of it.
#[derive(Debug)]
pub struct Clients {
    grant: Resources<Properties>,
    /// Places for clients of brokers that are free.
    places: Arc<Semaphore>,
}

/// The capability.
#[derive(Debug)]
pub struct Kafka;

impl Capability for Kafka {
    const NAME: &'static str = "kafka";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::own(&["kafka"])];
    const ACCESS: Access = Access::Granted { example: "kafka: localhost:9092" };
    const ROLES: &'static [Role] = &[Role::Writer, Role::Stream, Role::Target];
    type Grant = Resources<Properties>;
    type State = Clients;

    fn grant(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        grant::read(field, sources)
    }

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        kafka::add_to_linker::<_, Views<Kafka>>(linker, T::view)
    }

    fn state(grant: &Self::Grant, _: &Setup<'_>, _: &Shared) -> crate::error::Result<Self::State> {
        Ok(Clients { grant: grant.clone(), places: Arc::new(Semaphore::new(CLIENTS_MAX)) })
    }
}

type Outcome<T> = wasmtime::Result<Result<T, Failure>>;

impl View<'_, Kafka> {
    /// As the plugin gets it. That the grant will not do is remembered: it is the
    /// configuration's fault, whatever the plugin makes of it.
    fn failed(&mut self, failure: backend::Failure) -> Failure {
        match failure {
            backend::Failure::Unavailable(text) => Failure::Unavailable(text),
            backend::Failure::Refused(text) => Failure::Refused(text),
            backend::Failure::Denied(text) => {
                self.shared.misconfigured = true;
                Failure::Refused(format!("{text} (grants.kafka in the {})", self.shared.place))
            }
            backend::Failure::Misuse(text) => Failure::Misuse(text),
        }
    }

    /// A place for one more client.
    fn place(&self) -> Result<Place, Failure> {
        match Arc::clone(&self.state.places).try_acquire_owned() {
            Ok(permit) => Ok(Arc::new(permit)),
            Err(_) => Err(Failure::Misuse(format!(
                "the plugin has {CLIENTS_MAX} producers and consumers, which is the most it may; let one go first ({})",
                self.shared.place
            ))),
        }
    }

    fn brokers(&self, grant: Option<&str>) -> Result<Brokers, Failure> {
        let properties = granted::<Kafka, _>(&self.state.grant, grant, &self.shared.place).map_err(Failure::Misuse)?;
        Brokers::new(properties.0.clone()).map_err(|error| Failure::Misuse(error.message))
    }
}

impl Host for View<'_, Kafka> {
    async fn ensure_topic(
        &mut self,
        grant: Option<String>,
        topic: String,
        replicas: Option<u16>,
        settings: Vec<(String, String)>,
    ) -> Outcome<()> {
        let reached = self.brokers(grant.as_deref()).and_then(|brokers| Ok((brokers, self.place()?)));
        Ok(match reached {
            Ok((brokers, place)) => {
                topic::ensure_topic(&brokers, &topic, replicas, &settings, place).await.map_err(|failure| self.failed(failure))
            }
            Err(failure) => Err(failure),
        })
    }
}

impl HostProducer for View<'_, Kafka> {
    async fn open(&mut self, grant: Option<String>, topic: String) -> Outcome<Resource<Producer>> {
        let reached = self.brokers(grant.as_deref()).and_then(|brokers| Ok((brokers, self.place()?)));
        let (brokers, place) = match reached {
            Ok(reached) => reached,
            Err(failure) => return Ok(Err(failure)),
        };
        match Producer::open(&brokers, &topic, place).await {
            Ok(producer) => Ok(Ok(self.shared.table.push(producer)?)),
            Err(failure) => Ok(Err(self.failed(failure))),
        }
    }

    async fn push(&mut self, producer: Resource<Producer>, messages: Vec<u8>, lengths: Vec<u32>) -> Outcome<()> {
        let producer = self.shared.table.get_mut(&producer)?;
        let messages = match Messages::new(messages, lengths) {
            Ok(messages) => messages,
            Err(uncut) => return Ok(Err(Failure::Misuse(format!("messages {uncut}")))),
        };
        Ok(producer.push(&messages).await.map_err(|failure| self.failed(failure)))
    }

    async fn flush(&mut self, producer: Resource<Producer>) -> Outcome<()> {
        let producer = self.shared.table.get_mut(&producer)?;
        Ok(producer.flush().await.map_err(|failure| self.failed(failure)))
    }

    async fn drop(&mut self, producer: Resource<Producer>) -> wasmtime::Result<()> {
        self.shared.table.delete(producer)?;
        Ok(())
    }
}

impl HostConsumer for View<'_, Kafka> {
    async fn open(&mut self, grant: Option<String>, topic: String) -> Outcome<Resource<Consumer>> {
        let reached = self.brokers(grant.as_deref()).and_then(|brokers| Ok((brokers, self.place()?)));
        let (brokers, place) = match reached {
            Ok(reached) => reached,
            Err(failure) => return Ok(Err(failure)),
        };
        match Consumer::open(&brokers, &topic, place).await {
            Ok(consumer) => Ok(Ok(self.shared.table.push(consumer)?)),
            Err(failure) => Ok(Err(self.failed(failure))),
        }
    }

    async fn seek(&mut self, consumer: Resource<Consumer>, offset: Option<u64>) -> Outcome<()> {
        let consumer = self.shared.table.get_mut(&consumer)?;
        Ok(consumer.seek(offset).await.map_err(|failure| self.failed(failure)))
    }

    async fn next(&mut self, consumer: Resource<Consumer>, max_messages: u32, max_wait_ms: u32) -> Outcome<Entries> {
        let consumer = self.shared.table.get_mut(&consumer)?;
        let entries = consumer.next(max_messages, Duration::from_millis(max_wait_ms.into())).await.map_err(|failure| self.failed(failure));
        Ok(entries.map(|consumer::Entries { messages, offsets }| {
            let (messages, lengths) = messages.into_parts();
            Entries { messages, lengths, offsets }
        }))
    }

    async fn drop(&mut self, consumer: Resource<Consumer>) -> wasmtime::Result<()> {
        self.shared.table.delete(consumer)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
