//! A client that tells the cluster of events by plain HTTP, at one web-server and, when that does not answer, at the next one.

use super::{Asks, CALL_TIMEOUT};
use crate::{
    cluster::WORKSPACE,
    history::{ClientEvent, Request},
};
use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use uuid::Uuid;

/// The kind of event that all of these are, and that triggers wait for.
pub(in crate::faults) const KIND: &str = "tick";

/// See the module's page.
pub(in crate::faults) struct Events {
    /// Where web-servers are reached; the first one is asked first.
    pub(in crate::faults) web_servers: Vec<SocketAddr>,
    /// The cluster's token.
    pub(in crate::faults) token: String,
    /// The triggers that wait for these events.
    pub(in crate::faults) triggers: Vec<Uuid>,
}

impl Asks for Events {
    fn next(&self, key: String, _: &mut StdRng) -> Request {
        Request::PublishEvent { key, matches: self.triggers.clone() }
    }

    async fn ask(&mut self, request: &Request) -> Result<ClientEvent, String> {
        let Request::PublishEvent { key, .. } = request else { return Err("this client sends events".to_owned()) };
        let answer = timeout(CALL_TIMEOUT, self.publish(key)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", CALL_TIMEOUT.as_secs())));
        if answer.is_err() {
            self.web_servers.rotate_left(1);
        }
        answer.map_err(|error| format!("{error:#}"))
    }
}

impl Events {
    async fn publish(&self, key: &str) -> Result<ClientEvent> {
        let web_server = self.web_servers.first().context("a web-server")?;
        let mut stream = TcpStream::connect(web_server).await?;
        let body = json!({ "kind": KIND, "key": key }).to_string();
        let request = format!(
            "POST /api/events?workspace={WORKSPACE} HTTP/1.1\r\nHost: {web_server}\r\nAuthorization: Bearer {}\r\n\
             Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.token,
            body.len(),
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer's head")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{}: {body}", head.lines().next().unwrap_or_default());
        started(body)
    }
}

/// What an answer says: of each trigger its run, or none.
fn started(body: &str) -> Result<ClientEvent> {
    let answer: Value = serde_json::from_str(body).context("read an answer, which broke off")?;
    let id = |value: &Value| value.as_str().map(str::parse::<Uuid>).transpose();
    let mut started = Vec::new();
    for outcome in answer["event"]["pipeline_runs"].as_array().context("the outcomes of an event")? {
        let trigger = id(&outcome["pipeline_schedule_id"])?.context("a trigger")?;
        started.push((trigger, id(&outcome["id"])?));
    }
    Ok(ClientEvent::Acknowledged { run_id: None, version: None, instead: None, started })
}
