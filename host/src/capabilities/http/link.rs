//! The interfaces `types` and `outgoing-handler` of `wasi:http`, served by [`Client`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tracing::Level;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use super::client::{Asked, Client, PIECE_BYTES_MAX};
use super::grant::{self, Grant};
use super::headers;
use super::refusal::{Code, Refusal};
use super::report::Reports;
use super::resolve::{Resolve, System};
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View};
use crate::capabilities::grants::Resources;
use crate::capabilities::shared::Shared;
use crate::yaml::{Field, Problem, Sources};

/// What one set of headers takes in the host, at most.
const FIELDS_BYTES_MAX: usize = 64 << 10;

/// The capability.
#[derive(Debug)]
pub struct Http;

/// What an instance has of it.
pub struct Requests {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    client: Client,
    /// Of the call that is under way.
    deadline: Instant,
}

impl Capability for Http {
    const NAME: &'static str = "http";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::wasi("wasi:http", &["types", "outgoing-handler"])];
    const ACCESS: Access = Access::Granted { example: "http: { origins: [\"https://search.example:9200/index/\"] }" };
    type Grant = Resources<Grant>;
    type State = Requests;

    fn grant(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        grant::read(field, sources)
    }

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        outgoing_handler::add_to_linker::<T, WasiHttp>(linker, view)?;
        types::add_to_linker::<T, WasiHttp>(linker, &types::LinkOptions::default(), view)
    }

    fn state(grant: &Self::Grant, setup: &Setup<'_>, shared: &Shared) -> crate::error::Result<Requests> {
        let log = shared.log.clone();
        let reports = Reports::new(shared.place.clone(), move |text| log.emit(Level::WARN, text));
        let resolver: Arc<dyn Resolve> = Arc::new(System::new());
        let client = Client::new(grant, &resolver, &shared.budget, reports)
            .map_err(|error| error.context(format_args!("{}: {}.grants.http", setup.file.display(), setup.section)))?;
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS_BYTES_MAX);
        Ok(Requests { context, hooks: Hooks { client, deadline: Instant::now() } })
    }

    fn give_up(view: View<'_, Self>) {
        view.state.hooks.client.close();
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hooks.client.fmt(f)
    }
}

fn view<T: Holds<Http>>(store: &mut T) -> WasiHttpCtxView<'_> {
    let View { state, shared } = store.view();
    state.hooks.deadline = shared.deadline.into();
    shared.misconfigured |= state.hooks.client.was_misconfigured();
    WasiHttpCtxView { ctx: &mut state.context, table: &mut shared.table, hooks: &mut state.hooks }
}

type Answered = wasmtime_wasi_http::Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>)>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(headers::is_hosts)
    }

    // All are looked at where their refusal can be told.
    fn is_supported_scheme(&mut self, _: &http::uri::Scheme) -> bool {
        true
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answered> + Send> {
        let RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout } = options.unwrap_or_default();
        let asked = Asked { connect: connect_timeout, first_byte: first_byte_timeout, between_bytes: between_bytes_timeout };
        let broken = |_| Refusal::new(Code::Protocol, "the plugin broke off the body of its request");
        let request = request.map(|body| body.map_err(broken).boxed_unsync());
        let answered = self.client.send(request, asked, self.deadline);
        Box::new(async move {
            let answer = Pin::from(Box::new(answered)).await.map_err(|refusal| code(&refusal))?;
            let answer = answer.map(|body| body.map_err(|refusal| code(&refusal)).boxed_unsync());
            let nothing: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((answer, nothing))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE_BYTES_MAX
    }
}

/// What the plugin is told.
fn code(refusal: &Refusal) -> Error {
    match refusal.code {
        Code::Denied => Error::HttpRequestDenied,
        Code::Prohibited => Error::DestinationIpProhibited,
        Code::DnsTimeout => Error::DnsTimeout,
        Code::DnsError => Error::DnsError { rcode: None, info_code: None },
        Code::ConnectionRefused => Error::ConnectionRefused,
        Code::ConnectionTerminated => Error::ConnectionTerminated,
        Code::ConnectionTimeout => Error::ConnectionTimeout,
        Code::ConnectionReadTimeout => Error::ConnectionReadTimeout,
        Code::ConnectionLimit => Error::ConnectionLimitReached,
        Code::TlsProtocol => Error::TlsProtocolError,
        Code::TlsCertificate => Error::TlsCertificateError,
        Code::TlsAlert => Error::TlsAlertReceived { alert_id: None, alert_message: None },
        Code::RequestUri => Error::HttpRequestUriInvalid,
        Code::RequestMethod => Error::HttpRequestMethodInvalid,
        Code::RequestBodySize => Error::HttpRequestBodySize(None),
        Code::ResponseIncomplete => Error::HttpResponseIncomplete,
        Code::ResponseHeaderSize => Error::HttpResponseHeaderSectionSize(None),
        Code::ResponseBodySize => Error::HttpResponseBodySize(None),
        Code::ResponseTimeout => Error::HttpResponseTimeout,
        Code::Protocol => Error::HttpProtocolError,
        Code::Configuration => Error::ConfigurationError,
    }
}
