//! A thread for tasks that wake each other all the time.

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::{Code, Error, Result};

/// Ends, with all of its tasks, when it is dropped.
#[derive(Debug)]
pub struct Lane {
    handle: Handle,
    _open: oneshot::Sender<()>,
}

impl Lane {
    pub fn open(name: &str) -> Result<Self> {
        let failed = |error: std::io::Error| Error::retry(Code::SystemRefused, format!("cannot start a thread: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (open, closed) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(closed);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { handle, _open: open })
    }

    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}
