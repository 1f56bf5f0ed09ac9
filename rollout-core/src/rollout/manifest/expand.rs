//! Node sets in a manifest. They are replaced by their nodes once, when the manifest is staged.
//!
//! The stored text therefore needs no groups to be read, by any version, and its nodes do not change with a group. A
//! comment above the replaced value keeps what was written.

use super::{ManifestError, value};
use crate::hostlist::NodeSet;
use serde::Deserialize;
use toml::Spanned;

/// The keys of a manifest whose values are node sets. All others are ignored here.
#[derive(Deserialize)]
struct NodeSets {
    nodes: Spanned<String>,
}

/// Returns the text of a manifest with a hostlist in the place of a node set. `resolve` returns the nodes of a node
/// set, or the reason for having none. A text without a node set stays as it is, and so does one that is no manifest:
/// parsing it reports the error.
///
/// # Errors
/// The reason that `resolve` returns, with its key.
pub fn expand(
    text: &str,
    resolve: impl FnOnce(&str) -> Result<NodeSet, String>,
) -> Result<String, ManifestError> {
    let Ok(NodeSets { nodes: written }) = toml::from_str::<NodeSets>(text) else {
        return Ok(text.to_owned());
    };
    if NodeSet::parse(written.get_ref()).is_ok() {
        return Ok(text.to_owned());
    }
    let nodes = resolve(written.get_ref()).map_err(|reason| value("nodes", reason))?;
    let span = written.span();
    let (Some(before), Some(behind)) = (text.get(..span.start), text.get(span.end..)) else {
        return Ok(text.to_owned());
    };
    // The key stands in the line in which its value begins.
    let (lines, key) = before.split_at(before.rfind('\n').map_or(0, |newline| newline + 1));
    let comment = format!("# nodes was {:?} when this was staged.", written.get_ref());
    Ok(format!("{lines}{comment}\n{key}\"{nodes}\"{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::manifest::Manifest;

    const REST: &str = "[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";

    fn expanded(text: &str) -> Result<String, String> {
        let resolve = |set: &str| match set.trim() {
            "@gpu!cn3" => Ok(NodeSet::parse("cn[1-2],gpu7").unwrap()),
            set => Err(format!("{set}: no such group")),
        };
        expand(text, resolve).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_node_set_is_replaced_and_a_comment_keeps_it() {
        for (text, expected) in [
            (
                "name = 'a'\nnodes = '@gpu!cn3' # all but one\n",
                "name = 'a'\n# nodes was \"@gpu!cn3\" when this was staged.\nnodes = \"cn[1-2],gpu7\" # all but one\n",
            ),
            (
                "\"nodes\" = \"@gpu!cn3\"\nname = 'a'\n",
                "# nodes was \"@gpu!cn3\" when this was staged.\n\"nodes\" = \"cn[1-2],gpu7\"\nname = 'a'\n",
            ),
            (
                "name = 'é'\r\n  nodes = \"\"\"\n@gpu!cn3\n\"\"\"\r\n",
                "name = 'é'\r\n# nodes was \"@gpu!cn3\\n\" when this was staged.\n  nodes = \"cn[1-2],gpu7\"\r\n",
            ),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
        let text = format!("nodes = '@gpu!cn3'\nname = 'a'\n{REST}");
        let manifest = Manifest::parse(&expanded(&text).unwrap()).unwrap();
        assert_eq!(manifest.nodes, NodeSet::parse("cn[1-2],gpu7").unwrap());
        assert_eq!(expanded(&expanded(&text).unwrap()), expanded(&text), "there is nothing left to replace");
    }

    #[test]
    fn a_hostlist_and_what_is_no_manifest_stay_as_they_are() {
        for text in ["nodes = 'cn[2,1]'\n", "nodes = 3\n", "name = 'a'\n", "nodes = \n", ""] {
            assert_eq!(expanded(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn an_error_names_the_key() {
        assert_eq!(expanded("nodes = '@typo'"), Err("nodes: @typo: no such group".to_owned()));
        assert_eq!(expanded("nodes = 'cn[1-'"), Err("nodes: cn[1-: no such group".to_owned()));
    }
}
