//! The Redis protocol (RESP2), as much as tests need to look into a store without the client that the gateway uses.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::http::BoxedStream;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and the like.
    Simple(String),
    /// `-ERR …`.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes; `None`: nil.
    Bulk(Option<Vec<u8>>),
    /// A list; nil is empty.
    Array(Vec<Reply>),
}

impl Reply {
    /// The bytes of it and all it holds, flat.
    #[must_use]
    pub fn flatten(self) -> Vec<Vec<u8>> {
        match self {
            Self::Simple(text) | Self::Error(text) => vec![text.into_bytes()],
            Self::Integer(number) => vec![number.to_string().into_bytes()],
            Self::Bulk(bytes) => bytes.into_iter().collect(),
            Self::Array(items) => items.into_iter().flat_map(Self::flatten).collect(),
        }
    }

    /// As text, one line per item.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines: Vec<String> = self.clone().flatten().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        lines.join("\n")
    }
}

/// A connection to a Redis.
pub struct RespConnection {
    stream: BufReader<BoxedStream>,
}

impl RespConnection {
    /// Speaks RESP on an open stream.
    #[must_use]
    pub fn over(stream: BoxedStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a command and reads its reply.
    pub async fn command(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&request).await?;
        self.stream.flush().await?;
        self.read_reply().await
    }

    async fn read_reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Bulk(None),
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Reply::Bulk(Some(bytes))
                }
            },
            "*" => {
                let mut items = Vec::new();
                for _ in 0..number()?.max(0) {
                    items.push(Box::pin(self.read_reply()).await?);
                }
                Reply::Array(items)
            }
            other => return Err(io::Error::other(format!("unknown reply type {other:?}"))),
        })
    }
}
