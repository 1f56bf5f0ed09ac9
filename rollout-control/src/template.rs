//! Texts with values of nodes in them, such as `{node}.ipxe`.

/// Replaces `{name}` by values. `{{` is a brace, and so is one without a name after it, since the scripts of GRUB and
/// iPXE have many.
///
/// # Errors
/// Returns the name of a value that does not exist.
pub(crate) fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        if let Some(more) = after.strip_prefix('{') {
            filled.push('{');
            rest = more;
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
        let is_value = end > 0 && after[end..].starts_with('}') && !before.ends_with('$');
        if !is_value {
            filled.push('{');
            rest = after;
            continue;
        }
        let name = &after[..end];
        filled.push_str(&value(name).ok_or_else(|| name.to_owned())?);
        rest = &after[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}
