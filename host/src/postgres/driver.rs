//! What the driver says by itself. Its errors have no codes but their texts: this is the one
//! place that knows them, and the tests ask the driver for each.

use std::error::Error as _;
use std::io;

/// A cause that is not the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    PasswordMissing,
    NoChannelBinding,
    NoTls,
    /// The server is read-only, and `target_session_attrs` wants one that is not.
    ReadOnly,
    /// Something else in the connection string will not do.
    Invalid,
}

/// `None` for the answer of a server, a broken connection, and whatever else there is.
pub fn said(error: &tokio_postgres::Error) -> Option<Said> {
    if error.as_db_error().is_some() {
        return None;
    }
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    match cause.as_str() {
        "password missing" => Some(Said::PasswordMissing),
        "server did not use channel binding" => Some(Said::NoChannelBinding),
        "server does not support TLS" => Some(Said::NoTls),
        "database does not allow writes" if is_drivers_own(error) => Some(Said::ReadOnly),
        _ if error.to_string() == "invalid configuration" => Some(Said::Invalid),
        _ => None,
    }
}

/// An error of the operating system has its number.
fn is_drivers_own(error: &tokio_postgres::Error) -> bool {
    error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).is_some_and(|cause| cause.raw_os_error().is_none())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_postgres::{Config, NoTls};

    use super::*;

    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    const ASKS_PASSWORD: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    const REFUSES: &[u8] = b"E\0\0\0\x33SFATAL\0C28000\0Mdatabase does not allow writes\0\0";
    /// One column without a name, its text, the end of the answer.
    const IS_ON: &[u8] =
        b"T\0\0\0\x19\0\x01\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0D\0\0\0\x0c\0\x01\0\0\0\x02onC\0\0\0\x09SHOW\0Z\0\0\0\x05I";

    /// What the driver says of a server that gives these answers, one to each message, and then
    /// closes the connection at the next.
    async fn of(answers: &'static [&'static [u8]], settings: &str) -> Option<Said> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            for answer in answers {
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(answer).await;
            }
            let _ = socket.read(&mut buffer).await;
        });
        let config: Config = format!("host=127.0.0.1 port={port} user=a {settings}").parse().unwrap();
        said(&config.connect(NoTls).await.err().expect("no such server lets anybody in"))
    }

    #[tokio::test]
    async fn each_thing_that_the_driver_says_is_known() {
        assert_eq!(of(&[ASKS_PASSWORD], "sslmode=disable").await, Some(Said::PasswordMissing));
        assert_eq!(of(&[OK], "sslmode=disable channel_binding=require").await, Some(Said::NoChannelBinding));
        assert_eq!(of(&[b"N"], "sslmode=require").await, Some(Said::NoTls));
        assert_eq!(of(&[READY, IS_ON], "sslmode=disable target_session_attrs=read-write").await, Some(Said::ReadOnly));
        assert_eq!(of(&[REFUSES], "sslmode=disable").await, None, "that is the server's answer");
        assert_eq!(of(&[], "sslmode=disable").await, None, "the connection broke");
        let nowhere = Config::new().connect(NoTls).await.err().unwrap();
        assert_eq!(said(&nowhere), Some(Said::Invalid));
    }
}
