//! Scriptlets that fail in a transaction that nevertheless counts as successful. Pure.
//!
//! rpm only warns of a `%post`, `%preun`, `%postun` or trigger that fails, and dnf then ends with exit code 0. dpkg
//! fails in all cases.

/// Returns the lines of the output of dnf, zypper or rpm that tell of failed scriptlets: rpm's own words, also in that
/// of zypper, those of dnf 4 (`dnf/yum/rpmtrans.py`) and of dnf5 (`dnf5/context.cpp`).
pub(super) fn failed(output: &str) -> Vec<String> {
    let tells = |line: &&str| {
        let of_dnf4 = line.starts_with("Error in ") && line.contains(" scriptlet in rpm package ");
        let of_dnf5 = line.starts_with(">>> ") && line.contains("rror in %") && line.contains(" scriptlet");
        // rpm has words of its own for scriptlets in Lua (`rpmio/rpmlua.cc`), which it prints instead or in addition.
        line.contains(" scriptlet failed, ") || line.contains("lua script failed: ") || of_dnf4 || of_dnf5
    };
    let mut lines: Vec<String> = output.lines().map(str::trim).filter(tells).map(str::to_owned).collect();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_scriptlets_are_found() {
        let dnf4 = "  Running scriptlet: alpha-1.0-1.noarch     1/2 \n\
                    warning: %post(alpha-1.0-1.noarch) scriptlet failed, exit status 10\n\
                    Error in POSTIN scriptlet in rpm package alpha\nComplete!\n";
        let expected = [
            "warning: %post(alpha-1.0-1.noarch) scriptlet failed, exit status 10",
            "Error in POSTIN scriptlet in rpm package alpha",
        ];
        assert_eq!(failed(dnf4), expected);
        let dnf5 = ">>> Running %post scriptlet: broken-0:1.0-1.noarch\n\
                    >>> Non-critical error in %post scriptlet: broken-0:1.0-1.noarch\n>>> Scriptlet output:\n>>> no\n";
        assert_eq!(failed(dnf5), [">>> Non-critical error in %post scriptlet: broken-0:1.0-1.noarch"]);
        // zypper 1.14.42.
        let zypper = "(1/2) Installing: alpha-1.1-1.noarch [......done]\nAdditional rpm output:\n\
                      error: lua script failed: [string \"%post(alpha-1.1-1.noarch)\"]:1: no\n\n\n";
        assert_eq!(
            failed(zypper),
            ["error: lua script failed: [string \"%post(alpha-1.1-1.noarch)\"]:1: no"]
        );
        assert_eq!(failed(">>> Running %post scriptlet: a-0:1-1.noarch\nComplete!\n"), Vec::<String>::new());
    }
}
