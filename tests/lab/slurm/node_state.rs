//! A node's state in the output of `scontrol show node -o`. Pure.

/// The `State=` of one node's line: base state and flags, as in `IDLE+DRAIN`.
///
/// Words, not substrings: `NextState=` comes later, and Reason and Comment, which may hold anything, come last.
pub fn state_of(line: &str) -> Option<&str> {
    line.split_whitespace().find_map(|word| word.strip_prefix("State="))
}

/// The line that `scontrol show node -o` prints for this node.
pub(crate) fn line_of<'a>(lines: &'a str, node: &str) -> Option<&'a str> {
    lines.lines().find(|line| {
        line.split_whitespace().next().and_then(|word| word.strip_prefix("NodeName=")) == Some(node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_a_word_of_its_own() {
        let line =
            "NodeName=cn01 OS=Linux 6.1 #1 SMP NextState=RESUME State=DOWN+REBOOT_ISSUED Reason=x State=IDLE";
        assert_eq!(state_of(line), Some("DOWN+REBOOT_ISSUED"));
        assert_eq!(state_of("NodeName=cn01 NextState=RESUME"), None);
        let lines = "NodeName=cn010 State=DOWN\nNodeName=cn01 State=IDLE\n";
        assert_eq!(line_of(lines, "cn01").and_then(state_of), Some("IDLE"));
    }
}
