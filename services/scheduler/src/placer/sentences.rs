//! What would help somebody who waits, in words.

use placement::Hint;

/// Hints as one sentence; empty without any.
pub(super) fn hints(hints: &[Hint]) -> String {
    hints.iter().map(hint).collect::<Vec<_>>().join("; ")
}

fn hint(hint: &Hint) -> String {
    match hint {
        Hint::Share { gpu_milli } => format!("it fits now with {} % of each GPU", percent(*gpu_milli)),
        Hint::FewerGpus { gpus } => format!("it fits now with {gpus} GPU{}", if *gpus == 1 { "" } else { "s" }),
        Hint::OtherModel { model } => format!("it fits now on {model}"),
        Hint::LessCpu { cpu_milli } => {
            format!("it fits now with {}.{:03} cores", cpu_milli / 1000, cpu_milli % 1000)
        }
        Hint::LessMemory { memory_bytes } => format!("it fits now with {} MiB of memory", memory_bytes >> 20),
        Hint::OtherQueue { name, .. } => format!("it fits now in queue {name}"),
        Hint::WindowOpens { at } => format!("its window opens on {}", at.strftime("%A %Y-%m-%d %H:%M (%Z)")),
        Hint::Turn { position, at: None } => format!("position {position} in its queue"),
        Hint::Turn { position, at: Some(at) } => {
            format!("position {position} in its queue, at {} or so", at.strftime("%Y-%m-%d %H:%M UTC"))
        }
    }
}

fn percent(milli: u32) -> String {
    let text = format!("{}.{}", milli / 10, milli % 10);
    text.trim_end_matches(".0").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_one_sentence() {
        let all = [Hint::Share { gpu_milli: 405 }, Hint::FewerGpus { gpus: 1 }, Hint::Turn { position: 3, at: None }];
        let said = "it fits now with 40.5 % of each GPU; it fits now with 1 GPU; position 3 in its queue";
        assert_eq!(hints(&all), said);
    }
}
