//! A connection that has become something else, mostly a WebSocket: bytes both ways until somebody ends it, nobody uses
//! it, or whoever opened it may no longer. Refuses to change a byte.

use super::admission::BELIEVED;
use super::forward::Door;
use super::route::Goes;
use super::{Proxy, Routes};
use crate::standing::Lost;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use store::runtime_routes::Named;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::interval,
};

/// A connection on which nothing passes for so long is closed.
const IDLE: Duration = Duration::from_secs(3_600);
/// A browser that does not take the last frame of its connection for so long does not get it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The frame that ends a WebSocket whose user may not be here any more: code 1008 (RFC 6455, 7.4.1), and why.
const CLOSE: &[u8] = b"\x88\x27\x03\xf0your role, token or session has ended";
/// Bytes that have been read and not written.
const BUFFER_BYTES: usize = 32 * 1024;

/// What a connection is.
pub(super) struct Tunnel {
    pub(super) proxy: Arc<Proxy>,
    pub(super) goes: Arc<Goes>,
    /// Whoever opened it may have it open no more.
    pub(super) lost: Lost,
    /// It carries the frames of a WebSocket.
    pub(super) frames: bool,
    pub(super) door: Door,
}

/// Lives as long as the connection.
pub(super) async fn run(mut tunnel: Tunnel, browser: OnUpgrade, application: OnUpgrade) {
    let (browser, application): (Upgraded, Upgraded) = match tokio::try_join!(browser, application) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a connection was not upgraded");
            return;
        }
    };
    let (mut from_browser, mut to_browser) = split(TokioIo::new(browser));
    let (mut from_application, mut to_application) = split(TokioIo::new(application));
    let (sent, answered) = (Moved::default(), Moved::default());
    let (mut asked, mut said) = (Frames::default(), Frames::default());
    let (proxy, goes, websocket) = (&tunnel.proxy, &tunnel.goes, tunnel.frames);
    let used = |bytes: &[u8]| {
        if !websocket || asked.carry_data(bytes) {
            proxy.seen.saw(&goes.route);
        }
    };
    let follow = |bytes: &[u8]| {
        if websocket {
            said.carry_data(bytes);
        }
    };
    // Whichever ends first ends all: an upgraded connection has no half.
    let refused = tokio::select! {
        () = pump(&mut from_browser, &mut to_application, &sent, used) => false,
        () = pump(&mut from_application, &mut to_browser, &answered, follow) => false,
        () = until_gone(proxy, goes, [&sent, &answered]) => false,
        _ = &mut tunnel.lost => true,
    };
    // In the middle of a frame no other can begin: then the browser only sees the end.
    if refused && websocket && answered.is_whole() && said.is_between() {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, to_browser.write_all(CLOSE)).await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, to_browser.shutdown()).await;
    }
    drop(tunnel.door);
}

/// What has passed in one direction.
#[derive(Debug, Default)]
struct Moved {
    times: AtomicU64,
    /// Some of what was read last may not have been written.
    writing: AtomicBool,
}

impl Moved {
    fn is_whole(&self) -> bool {
        !self.writing.load(Ordering::Relaxed)
    }
}

/// Copies until one of the two ends.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &Moved,
    mut passes: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        passes(&buffer[..count]);
        moved.times.fetch_add(1, Ordering::Relaxed);
        moved.writing.store(true, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        moved.writing.store(false, Ordering::Relaxed);
    }
}

/// Looks again and again whether this life runs and is used; a database that does not answer is no reason.
async fn until_gone(proxy: &Proxy, here: &Goes, moved: [&Moved; 2]) {
    let (core, workspace) = (&proxy.core, here.route.workspace);
    let mut tick = interval(BELIEVED);
    let (mut before, mut quiet) = (0, Duration::ZERO);
    loop {
        tick.tick().await;
        let routes: &Routes = &proxy.routes;
        if let Ok(goes) = routes.find(core, Named::Id(workspace)).await
            && goes.is_none_or(|goes| goes.route.number != here.route.number)
        {
            return;
        }
        let now: u64 = moved.iter().map(|moved| moved.times.load(Ordering::Relaxed)).sum();
        quiet = if now == before { quiet + BELIEVED } else { Duration::ZERO };
        before = now;
        if quiet > IDLE {
            return;
        }
    }
}

/// Follows the frames that a browser sends, to tell what people do from the pings that browsers send alone.
#[derive(Debug, Default)]
struct Frames {
    /// Of the current frame's head, what has come.
    head: Vec<u8>,
    /// Of its content, what has not.
    rest: u64,
}

impl Frames {
    /// Whether what comes next begins a frame.
    fn is_between(&self) -> bool {
        self.head.is_empty() && self.rest == 0
    }

    /// Whether a frame with data begins in these bytes.
    fn carry_data(&mut self, mut bytes: &[u8]) -> bool {
        let mut data = false;
        while let Some((first, more)) = bytes.split_first() {
            if self.rest > 0 {
                let skip = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
                self.rest -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.head.push(*first);
            bytes = more;
            if let Some(length) = content_length(&self.head) {
                data |= matches!(self.head[0] & 0x0f, 0..=2);
                self.rest = length;
                self.head.clear();
            }
        }
        data
    }
}

/// The length of a frame's content, once its whole head is there.
fn content_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let (extended, mask) = (
        match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        },
        if second & 0x80 == 0 { 0 } else { 4 },
    );
    if head.len() < 2 + extended + mask {
        return None;
    }
    let length = head[2..2 + extended].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    Some(if extended == 0 { u64::from(second & 0x7f) } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(vec![0x81; length]);
        frame
    }

    #[test]
    fn the_last_frame_is_whole() {
        assert_eq!(content_length(CLOSE), Some(CLOSE.len() as u64 - 2));
        let mut frames = Frames::default();
        assert!(!frames.carry_data(CLOSE) && frames.is_between());
        frames.carry_data(&CLOSE[..3]);
        assert!(!frames.is_between());
    }

    #[test]
    fn data_is_told_from_pings_however_it_is_cut() {
        let sent = [frame(9, 5), frame(1, 300), frame(10, 0), frame(2, 70_000), frame(9, 125)].concat();
        let data_at = [11, 11 + 308 + 6];
        for step in [1, 2, 7, 100, sent.len()] {
            let mut frames = Frames::default();
            let told: Vec<usize> = sent
                .chunks(step)
                .enumerate()
                .filter(|(_, part)| frames.carry_data(part))
                .map(|(at, _)| at * step)
                .collect();
            let whole = step == sent.len();
            assert_eq!(told.len(), if whole { 1 } else { 2 }, "{step}: {told:?}");
            assert!(
                whole || told.iter().zip(data_at).all(|(told, at)| told + step > at && *told <= at + 14),
                "{step}: {told:?}"
            );
        }
    }
}
