//! One small answer for the host itself, by a connection of its own: tokens, and credentials.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, timeout_at};

use super::body::Outgoing;
use super::connection::{Dialler, Sender, Sent, failed};
use super::origin::Server;
use super::refusal::{Code, Refusal, Result};

const ANSWER_BYTES_MAX: usize = 256 << 10;

/// The status and the body. The uri of `request` is a path with its query.
pub async fn fetch(dialler: &Dialler, server: &Server, request: Request<Bytes>, until: Instant) -> Result<(StatusCode, Bytes)> {
    let asked = async {
        let (mut sender, _connection) = dialler.connect(server, None, until).await?;
        let (mut parts, body) = request.into_parts();
        match &sender {
            Sender::Http2(_) => parts.uri = server.uri(parts.uri.path_and_query())?,
            Sender::Http1(_) | Sender::None => {
                let authority = HeaderValue::from_str(&server.authority());
                parts.headers.insert(header::HOST, authority.map_err(|_| Refusal::new(Code::RequestUri, format!("{server} is no host")))?);
            }
        }
        let request = Request::from_parts(parts, Outgoing::whole(body, None));
        let Sent::Answer(answer) = sender.send(server, request).await? else {
            return Err(Refusal::new(Code::ConnectionTerminated, format!("the connection to {server} was closed")));
        };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => failed(server, error),
            None => Refusal::new(Code::ResponseBodySize, format!("{server} answers with more than {ANSWER_BYTES_MAX} bytes")),
        })?;
        Ok((head.status, body.to_bytes()))
    };
    let late = || Refusal::new(Code::ResponseTimeout, format!("{server} did not answer in time"));
    timeout_at(until, asked).await.map_err(|_| late())?
}
