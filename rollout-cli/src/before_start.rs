//! Checks before the first node of a rollout is requested, for `start` and `plan`.

use crate::context::Context;
use crate::failure::Failure;
use rollout_plan::strategy::{Strategy, check_known};

/// Returns the reason for not starting a rollout that would come after one that never was. Such a name is a typo: the
/// rollout would not wait for anything.
pub(crate) fn unknown_after(
    context: &Context,
    id: &str,
    strategy: &Strategy,
) -> Result<Option<String>, Failure> {
    let Some(after) = &strategy.after else { return Ok(None) };
    let unknown = check_known(after, id, &context.store.ids_ever()?).err();
    Ok(unknown.map(|unknown| unknown.to_string()))
}
