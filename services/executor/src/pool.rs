//! Runtimes of workspaces, as far as every backend shares them: what the owner of a pool orders, what a backend shows,
//! and the stream between the two.
//!
//! Both sides state levels. A backend keeps a [`Board`] up to date; [`client`] says it to whichever scheduler answers,
//! whole with each connection, and hands orders over. Refuses to know how a runtime is run.

pub mod board;
pub mod client;
pub mod holdings;
pub mod order;
mod volume;
pub mod wishes;

pub use board::Board;
pub use domain::volume::Volume;
pub use order::{Grant, Life, Order};
pub use wishes::Wishes;

use domain::id::HolderId;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Runs runtimes on one kind of machine.
///
/// Everything about a runtime is a level: `apply` may be called again with what was said before, and after a restart
/// with what was said to an earlier life of this process. A backend
///
/// - obeys the order with the greatest fence; lesser ones never reach it,
/// - puts a report on its board whenever one changes, with the fence of the order that it obeys,
/// - reports `GONE` when nothing is left, and not before; told to stop what it does not have, it reports that `GONE`,
/// - goes on reporting what is gone, also after a restart, until it is told to forget it, and never starts it again.
pub trait RuntimeBackend: Send + Sync + 'static {
    /// As `PoolHello.backend` names it: `process`, `kubernetes`.
    fn name(&self) -> &'static str;

    /// What there is: nodes, and reports of ours.
    fn board(&self) -> &Arc<Board>;

    /// Finds what an earlier life of this process left, and puts nodes and reports on the board. Answers the orders that
    /// they obey, so that nothing older counts and no device is given twice. Called once, before anything else.
    fn recover(&self) -> BoxFuture<'_, anyhow::Result<Vec<Order>>>;

    /// Takes note of what one runtime shall be, and returns at once.
    fn apply(&self, order: Order);

    /// Takes note of what these volumes shall be, and returns at once. Each is a level, and one that is not named stays as it
    /// is. What becomes of it goes on the board; it is `GONE` when nothing of it is left.
    fn volumes(&self, volumes: Vec<Volume>);

    /// Reads the activity of these runtimes now and reports it; returns at once.
    fn probe(&self, holders: Vec<HolderId>);

    /// Before this process ends: ends what must not outlive it, and answers when that is gone.
    fn close(&self) -> BoxFuture<'_, ()>;
}
