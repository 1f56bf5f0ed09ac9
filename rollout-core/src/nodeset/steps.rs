//! Ranges with a step, `[1-9/2]`, which Slurm's hostlists do not have.

use super::NodesetError;
use crate::hostlist::{MAX_NODES, MAX_RANGE};
use std::borrow::Cow;
use std::fmt::Write;

/// Writes each range with a step in the brackets of a hostlist as its numbers: `n[1-5/2,9]` becomes `n[1,3,5,9]`.
pub(super) fn without_steps(list: &str) -> Result<Cow<'_, str>, NodesetError> {
    if !list.contains('/') {
        return Ok(Cow::Borrowed(list));
    }
    let mut written = String::new();
    let mut numbers = 0;
    let mut rest = list;
    while let Some((before, behind)) = rest.split_once('[') {
        let (ranges, behind) = behind.split_once(']').unwrap_or((behind, ""));
        written.push_str(before);
        written.push('[');
        for (index, range) in ranges.split(',').enumerate() {
            if index > 0 {
                written.push(',');
            }
            match range.split_once('/') {
                None => written.push_str(range),
                Some((bounds, step)) => numbers += write_numbers(range, bounds, step, &mut written)?,
            }
            if numbers > MAX_NODES as u64 {
                return Err(NodesetError::TooManyNodes);
            }
        }
        // A bracket that is never closed stays so, and the hostlist is refused for it.
        if rest.len() > before.len() + 1 + ranges.len() {
            written.push(']');
        }
        rest = behind;
    }
    written.push_str(rest);
    Ok(Cow::Owned(written))
}

/// Writes the numbers of a range, padded as its lower end, and returns their number.
fn write_numbers(range: &str, bounds: &str, step: &str, written: &mut String) -> Result<u64, NodesetError> {
    let wrong = || NodesetError::Step(range.to_owned());
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(wrong)
    };
    let (low, high) = bounds.split_once('-').ok_or_else(wrong)?;
    let (first, last, step) = (number(low)?, number(high)?, number(step)?);
    if step == 0 || first > last {
        return Err(wrong());
    }
    let count = (last - first) / step + 1;
    if count > MAX_RANGE {
        return Err(NodesetError::StepTooLong(range.to_owned()));
    }
    for index in 0..count {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(written, "{comma}{:0width$}", first + index * step, width = low.len());
    }
    Ok(count)
}
