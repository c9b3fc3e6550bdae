//! What the tag of an image names now, for the rules and for the start: the content is what is allowed, and what runs.
//! Refuses to know how a registry is asked.

use super::denied;
use crate::core::Core;
use crate::fault::Fault;
use domain::ErrorKind;
use domain::runtime::Spec;
use domain::runtime::rules::{Code, Denial};
use registry::Error;

/// The image with its digest, where its registry may be asked and it has none yet.
pub(crate) async fn pinned(core: &Core, image: &str) -> Result<Option<String>, Fault> {
    core.registries.pinned(image).await.map_err(|error| match &error {
        Error::Away { .. } | Error::Row(_) | Error::Client(_) => {
            let message = format!("failed to {error}; try again, or name the image by its digest");
            Fault::new(ErrorKind::Unavailable, "REGISTRY_UNAVAILABLE", message)
        }
        Error::NoImage(_) => {
            let message = format!("failed to {error}");
            Fault::new(ErrorKind::FailedPrecondition, "IMAGE_NOT_FOUND", message)
        }
    })
}

/// What a rule says of a spec; where it does not allow the image as it is named, what it says of the content that this
/// names. With that content's image, if it was looked up: whoever asked again might be told of another one.
pub(crate) async fn judged<T>(
    core: &Core,
    spec: &Spec,
    rule: impl Fn(&Spec) -> Result<T, Denial>,
) -> Result<(T, Option<String>), Fault> {
    let denial = match rule(spec) {
        Err(denial) if denial.code == Code::ImageNotAllowed => denial,
        judged => return judged.map(|judged| (judged, None)).map_err(denied),
    };
    let Some(image) = pinned(core, &spec.image).await? else { return Err(denied(denial)) };
    let judged = rule(&Spec { image: image.clone(), ..spec.clone() }).map_err(denied)?;
    Ok((judged, Some(image)))
}

/// The spec of a life, with its image as somebody named it: what its tag named was allowed when it started.
pub(crate) fn as_named(spec: &Spec) -> Spec {
    Spec { image: spec.named_image().to_owned(), ..spec.clone() }
}
