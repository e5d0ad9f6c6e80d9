//! Streams that stay open (server-sent events, WebSockets) and note the moment when they were ended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use tokio_tungstenite::tungstenite::Message;

use super::background;
use super::body::empty;
use super::http::{Answer, HttpClient};
use super::server::Task;
use super::wait::within;
use super::websocket::WebSocket;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// As a whole answer does, or a WebSocket's close frame with this code (RFC 6455 §7.4).
    Finished(Option<u16>),
    /// The connection was cut, or closed without a word.
    Broken(String),
}

/// An open stream. It is read on the harness's own threads, so that the moment of its end is true however busy the test is.
pub struct Held {
    seen: Arc<Mutex<Seen>>,
    _reading: Task,
}

#[derive(Default)]
struct Seen {
    pieces: usize,
    end: Option<(Instant, How)>,
}

impl Held {
    /// Opens an answer without end: `GET` of an `http` or `https` URL with these further headers. It returns when the first piece is there.
    /// `Err`: the answer, when it is not 200.
    pub async fn events(client: &HttpClient, url: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Answer>> {
        let mut request = Request::get(url).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(empty()).expect("a request");
        let (client, what) = (client.clone(), url.to_owned());
        let opened = background::spawn(async move { client.open(request).await }).await.expect("nothing panics there");
        let mut answer = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        if answer.status() != 200 {
            return Err(Box::new(answer.whole().await.unwrap_or_else(|error| panic!("{what}: {error}"))));
        }
        let held = Self::reading(async move |seen| {
            loop {
                match answer.try_next().await {
                    Ok(Some(_)) => note(&seen).pieces += 1,
                    Ok(None) => return How::Finished(None),
                    Err(error) => return How::Broken(error.to_string()),
                }
            }
        });
        within(super::wait::PATIENCE, || (held.pieces() > 0 || held.end().is_some()).then_some(())).await;
        Ok(held)
    }

    /// Opens a WebSocket that echoes; it returns when one message went there and back. `Err`: the answer that refused it.
    pub async fn websocket(client: &HttpClient, url: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Answer>> {
        let (client, url) = (client.clone(), url.to_owned());
        let headers: Vec<(String, String)> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let opened = background::spawn(async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut socket = WebSocket::connect(&client, &url, &headers).await?;
            assert!(socket.echo("are you there?").await, "the WebSocket at {url} does not echo");
            Ok::<_, Box<Answer>>(socket)
        });
        let mut socket = opened.await.expect("nothing panics there")?;
        let held = Self::reading(async move |seen| {
            note(&seen).pieces += 1; // the echo
            loop {
                match socket.next().await {
                    Some(Message::Close(frame)) => return How::Finished(frame.map(|frame| frame.code.into())),
                    Some(_) => note(&seen).pieces += 1,
                    None => return How::Broken("no close frame".to_owned()),
                }
            }
        });
        Ok(held)
    }

    /// How many pieces or messages came so far.
    #[must_use]
    pub fn pieces(&self) -> usize {
        note(&self.seen).pieces
    }

    /// When and how it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<(Instant, How)> {
        note(&self.seen).end.clone()
    }

    /// Waits for its end; `None` when it is still open after that time.
    pub async fn ends_within(&self, time: Duration) -> Option<(Instant, How)> {
        within(time, || self.end()).await
    }

    fn reading<F>(read: impl FnOnce(Arc<Mutex<Seen>>) -> F) -> Self
    where
        F: Future<Output = How> + Send + 'static,
    {
        let seen = Arc::<Mutex<Seen>>::default();
        let (reading, noting) = (read(Arc::clone(&seen)), Arc::clone(&seen));
        let task = Task::run(async move {
            let how = reading.await;
            note(&noting).end = Some((Instant::now(), how));
        });
        Self { seen, _reading: task }
    }
}

fn note(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
