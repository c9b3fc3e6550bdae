//! A run while it goes on: a live tree on a terminal, a line per change elsewhere.

use super::{Output, block, short_id, time, tree};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use proto::v1::{Block, BlockRun, BlockRunStatus, Run};
use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    time::Duration,
};

/// A taller tree would not fit a terminal: then changes are told in lines.
const LIVE_BLOCKS_MAX: usize = 40;

/// Shows one run.
pub(crate) struct Progress {
    output: Output,
    live: Option<Live>,
    /// Status and tries of each block, whether somebody has to act for it, and how many of its children were done.
    seen: HashMap<String, ((i32, i32, bool), i32)>,
    width: usize,
}

struct Live {
    multi: MultiProgress,
    bars: HashMap<String, (ProgressBar, String)>,
}

impl Progress {
    /// For a run of the pipeline with these blocks.
    pub(crate) fn new(output: &Output, blocks: &[Block]) -> Self {
        // Guards and reactions run once per block that they watch, under names of their own.
        let steps = blocks.iter().filter(|b| b.r#type != "callback" && b.r#type != "conditional");
        let edges: Vec<_> = steps.map(|b| (b.uuid.clone(), b.upstream_blocks.clone())).collect();
        let lines = tree::lines(&edges);
        let width = lines.iter().map(|l| l.prefix.chars().count() + l.name.chars().count()).max().unwrap_or(0);
        let terminal = io::stderr().is_terminal() && io::stdout().is_terminal() && !output.json;
        let live = (terminal && blocks.len() <= LIVE_BLOCKS_MAX).then(|| Live::new(lines, width));
        Self { output: output.clone(), live, seen: HashMap::new(), width }
    }

    /// Shows what changed.
    pub(crate) fn show(&mut self, blocks: &[BlockRun]) {
        let now = Timestamp::now();
        for run in blocks {
            let state = (run.status, run.attempts, !run.wait_reason.is_empty());
            let before = self.seen.insert(run.block.clone(), (state, run.children_completed));
            if before == Some((state, run.children_completed)) {
                continue;
            }
            match &self.live {
                Some(live) if live.bars.contains_key(&run.block) => live.show(&self.output, run, now),
                // Ten thousand children are not worth ten thousand lines.
                _ if before.is_some_and(|(known, _)| known == state) => {}
                _ => self.tell(run, now),
            }
        }
    }

    /// The last words about the run.
    pub(crate) fn finish(&self, run: &Run) {
        if let Some(live) = &self.live {
            live.bars.values().for_each(|(bar, _)| bar.abandon());
        }
        let (word, tone) = block::run_status(run.status());
        let span = time::span(
            time::instant(run.started_at.as_ref()),
            time::instant(run.completed_at.as_ref()),
            Timestamp::now(),
        );
        let reason = if run.reason.is_empty() { String::new() } else { format!(": {}", block::one_line(&run.reason)) };
        let text = format!("run {} {word}", short_id(&run.id));
        super::line(&format!(
            "{} {}{reason}",
            block::toned(self.output.style, tone, &text),
            self.output.style.dim(&span)
        ));
    }

    /// One line, for what is worth one: the waiting of a block is not.
    fn tell(&self, run: &BlockRun, now: Timestamp) {
        let status = run.status();
        let dull = matches!(status, BlockRunStatus::Initial | BlockRunStatus::Queued | BlockRunStatus::Unspecified);
        if dull && run.attempts == 0 && run.wait_reason.is_empty() {
            return;
        }
        let (sign, _, tone) = block::block_status(status);
        let name = format!("{:width$}", run.block, width = self.width);
        let text = format!("{} {name}  {}", block::toned(self.output.style, tone, sign), block::details(run, now));
        match &self.live {
            // Above the live tree, or it would be drawn over.
            Some(live) => drop(live.multi.println(text.trim_end())),
            None => super::line(text.trim_end()),
        }
    }
}

impl Live {
    fn new(lines: Vec<tree::Line>, width: usize) -> Self {
        let multi = MultiProgress::new();
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bars = lines.into_iter().map(|line| {
            let bar = multi.add(ProgressBar::new_spinner().with_style(style.clone()));
            let used = line.prefix.chars().count();
            let label = format!("{}\u{0}{:width$}", line.prefix, line.name, width = width.saturating_sub(used));
            bar.set_message(label.replace('\u{0}', "· "));
            (line.name, (bar, label))
        });
        let bars = bars.collect();
        Self { multi, bars }
    }

    fn show(&self, output: &Output, run: &BlockRun, now: Timestamp) {
        let Some((bar, label)) = self.bars.get(&run.block) else { return };
        let status = run.status();
        let (sign, _, tone) = block::block_status(status);
        let running = status == BlockRunStatus::Running;
        let sign = if running { "{spinner:.cyan}".to_owned() } else { block::toned(output.style, tone, sign) };
        let (prefix, name) = label.split_once('\u{0}').unwrap_or(("", label));
        let details = block::details(run, now);
        let elapsed = if running { "  {elapsed}" } else { "" };
        // What a block says about itself must not be read as a template.
        let template = format!("{}{sign} {}  {{msg}}{elapsed}", escape(prefix), escape(name));
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        bar.set_message(details);
        if running {
            bar.reset_elapsed();
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            bar.disable_steady_tick();
        }
        if block::block_ended(status) {
            bar.abandon();
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}
