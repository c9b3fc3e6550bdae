//! What a project lets its runtimes be. Refuses to know what they hold at the moment.

use super::{Code, Denial, matches, never, remedy};
use crate::device::DeviceModel;
use crate::quota::{Quota, Usage};
use crate::runtime::Spec;

/// What an administrator set for a project; the default lets any image run, without root and without limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// References, beginnings ending in `*`, or `name@sha256:…`; empty is any.
    pub images: Vec<String>,
    /// User 0 is allowed.
    pub allow_root: bool,
    /// Of a project that a group owns: whether the group allows it too.
    pub group_allows_root: Option<bool>,
    /// What its runtimes may hold together.
    pub quota: Quota,
    /// Of a project that a group owns: what the runtimes of all its projects may hold together.
    pub group_quota: Quota,
    /// The longest time-out for idleness, seconds.
    pub idle_timeout_max_s: Option<u32>,
    /// The longest lifetime, seconds.
    pub lifetime_max_s: Option<u32>,
}

impl Policy {
    /// Whether the project lets a runtime be so.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, spec: &Spec) -> Result<(), Denial> {
        self.check_image(&spec.image)?;
        self.check_root(spec)?;
        self.check_quota(spec)?;
        bounded(Code::TimeoutLimit, "idle_timeout_s", spec.idle_timeout_s, self.idle_timeout_max_s, "the project")?;
        bounded(Code::LifetimeLimit, "lifetime_s", spec.lifetime_s, self.lifetime_max_s, "the project")
    }

    /// Whether a life may still start as it is: with its image, by its content or as it was named when that was looked up, and
    /// as its user.
    ///
    /// # Errors
    /// What is not allowed any more.
    pub fn permits(&self, spec: &Spec) -> Result<(), Denial> {
        let by_name = |denial| self.check_image(spec.named_image()).map_err(|_| denial);
        self.check_image(&spec.image).or_else(by_name)?;
        self.check_root(spec)
    }

    /// The backend's own default image needs no permission.
    fn check_image(&self, image: &str) -> Result<(), Denial> {
        let allowed = |pattern: &String| matches(pattern, image) || is_pinned(pattern, image);
        if image.is_empty() || self.images.is_empty() || self.images.iter().any(allowed) {
            return Ok(());
        }
        let sentence = format!("image `{image}` is not one that the project may run");
        let remedy = format!("use one of {}, or ask an administrator", shown(&self.images));
        Err(Denial::new(Code::ImageNotAllowed, "image", sentence, remedy))
    }

    fn check_root(&self, spec: &Spec) -> Result<(), Denial> {
        let who = match self.group_allows_root {
            _ if !spec.root => return Ok(()),
            _ if !self.allow_root => "the project does",
            Some(false) => "the group that owns the project does",
            _ => return Ok(()),
        };
        let sentence = format!("{who} not let containers run as root");
        Err(Denial::new(Code::RootNotAllowed, "root", sentence, "run without root, or ask an administrator"))
    }

    /// Against the whole quotas: what others hold may be given back.
    fn check_quota(&self, spec: &Spec) -> Result<(), Denial> {
        fits(&self.quota, "the project", &usage(spec))?;
        fits(&self.group_quota, "the group that owns the project", &usage(spec))
    }
}

/// Whether a runtime, or several that start together, are no more than a quota, when nobody else uses it.
///
/// # Errors
/// In which dimension they are more than `whose` quota.
pub fn fits(quota: &Quota, whose: &str, wanted: &Usage) -> Result<(), Denial> {
    let Some(excess) = quota.excess(&Usage::default(), wanted) else { return Ok(()) };
    let remedy = remedy(wanted, "ask for less, or ask an administrator for more quota");
    Err(Denial::new(Code::QuotaTooSmall, "spec", never(&excess, wanted, whose), remedy))
}

/// What a runtime holds while it runs. A model counts where only one will do: which of several it gets is not known before.
#[must_use]
pub fn usage(spec: &Spec) -> Usage {
    let ask = &spec.ask;
    let effective = ask.effective_milli();
    let model = match ask.models.as_slice() {
        [model] if effective > 0 => vec![(model.clone(), effective)],
        _ => Vec::<(DeviceModel, u64)>::new(),
    };
    Usage {
        gpu_milli: effective,
        model_milli: model.into_iter().collect(),
        cpu_milli: ask.cpu_milli,
        memory_bytes: ask.memory_bytes,
        storage_bytes: spec.storage_bytes,
        holders: 1,
    }
}

/// Whether `seconds`, of which 0 is no bound at all, stays within a bound.
pub(super) fn bounded(
    code: Code,
    field: &'static str,
    seconds: u32,
    bound: Option<u32>,
    whose: &str,
) -> Result<(), Denial> {
    match bound {
        Some(bound) if seconds == 0 || seconds > bound => {
            let sentence = format!("{whose} allows at most {bound} seconds");
            Err(Denial::new(code, field, sentence, format!("set it to {bound} or less; 0 would be never")))
        }
        _ => Ok(()),
    }
}

/// A list allows `name@sha256:…`; the same content may also be named with a tag before the digest.
fn is_pinned(pattern: &str, image: &str) -> bool {
    let (Some((name, digest)), Some((tagged, given))) = (pattern.split_once('@'), image.split_once('@')) else {
        return false;
    };
    let last = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let untagged = tagged[last..].find(':').map_or(tagged, |colon| &tagged[..last + colon]);
    digest == given && name == untagged
}

fn shown(images: &[String]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<String> = images.iter().take(SHOWN).map(|image| format!("`{image}`")).collect();
    let more = if images.len() > SHOWN { " and others" } else { "" };
    format!("{}{more}", first.join(", "))
}
