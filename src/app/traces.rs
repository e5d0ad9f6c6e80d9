//! Traces: what takes them to the collector that the config names.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};

use super::StartError;
use crate::clock::SharedClock;
use crate::config::{self, Tracing, collector_headers};
use crate::provider::http::{Http, HttpSettings};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::telemetry::otlp::{Deliver, Tracer, Undelivered};
use crate::telemetry::trace::Share;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(10);
/// A collector answers with a few bytes, or a sentence.
const ANSWER: usize = 64 * 1024;

/// How long the end of the process waits for what is left.
const FLUSH: Duration = Duration::from_secs(2);

/// Waits until what is left is sent, and not for long: whoever takes longer takes nothing.
pub(super) async fn flush(tracer: Option<&Arc<Tracer>>) {
    if let Some(tracer) = tracer {
        let _ = tokio::time::timeout(FLUSH, tracer.flush()).await;
    }
}

/// Starts to take spans to the collector; `None` where the config names none.
pub(super) fn tracer(
    settings: Option<&config::Tracing>,
    clock: &SharedClock,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Tracer>>, StartError> {
    let Some(settings) = settings else { return Ok(None) };
    let deliver = deliver(settings, tasks)?;
    let share = Share::new(settings.sample);
    let (tracer, exporter) = Tracer::new(share, &settings.service_name, deliver, Arc::clone(metrics), Arc::clone(clock));
    metrics.trace_calls(&tracer);
    tasks.background(exporter.run());
    Ok(Some(tracer))
}

fn deliver(settings: &Tracing, tasks: &Tasks) -> Result<Deliver, StartError> {
    let uri: Uri = settings.endpoint.as_str().parse().map_err(|_| StartError::new("tracing.endpoint is no address that can be called"))?;
    let (http, headers) = (http(settings, tasks), settings.headers.clone());
    Ok(Arc::new(move |bytes| {
        let mut request = Request::new(bytes);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let added = headers.as_ref().map(|headers| collector_headers(&headers.get())).transpose();
        let http = http.clone();
        Box::pin(async move {
            // The file was good at the start.
            let added = added.map_err(|wrong| Undelivered::Refused(format!("tracing.headers_file: {wrong}")))?;
            request.headers_mut().extend(added.into_iter().flatten());
            let answer = http.send(request).await.map_err(|error| Undelivered::Later(error.to_string()))?;
            outcome(answer.status())
        })
    }))
}

/// OTLP, "Failures": what may be sent again, and what may not.
fn outcome(status: StatusCode) -> Result<(), Undelivered> {
    let why = || format!("the collector answered with status {}", status.as_u16());
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Err(Undelivered::Later(why()))
        }
        _ => Err(Undelivered::Refused(why())),
    }
}

fn http(settings: &Tracing, tasks: &Tasks) -> Http {
    let settings = HttpSettings {
        connect_timeout: CONNECT_TIMEOUT,
        deadline: DEADLINE,
        max_bytes: ANSWER,
        tls: settings.tls.clone(),
        // `HTTPS_PROXY` is for providers and token issuers.
        proxy: None,
    };
    Http::new(settings, tasks.clone())
}
