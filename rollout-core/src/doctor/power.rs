//! The tables `[[power]]`: their nodes, programs and files.

use super::Finding;
use crate::hostlist::NodeSet;

const CHECK: &str = "power";

/// A table as it was looked at.
#[derive(Debug, Clone)]
pub struct TableFacts {
    pub via: String,
    /// Its nodes, or why they are not known. `None` stands for all nodes.
    pub nodes: Option<Result<NodeSet, String>>,
    /// What is wrong with its program, if anything is.
    pub program: Result<(), String>,
    /// What is wrong with its files: credentials, certificates.
    pub files: Vec<String>,
    /// Nodes without an address, with the reasons.
    pub without_address: Vec<(NodeSet, String)>,
}

const CONSEQUENCE: &str = "the power of its nodes can be neither read nor switched";

/// Returns the finding about a mistake in the tables.
#[must_use]
pub fn mistake(why: &str) -> Finding {
    Finding::problem(CHECK, why).because(CONSEQUENCE).cured_by("correct this table in controller.toml")
}

/// Returns the findings about all tables. `known` are Slurm's nodes, if it was asked.
#[must_use]
pub fn power(tables: &[TableFacts], known: Option<&NodeSet>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut covered = NodeSet::default();
    let mut all = false;
    for (index, table) in tables.iter().enumerate() {
        let name = format!("table {} (via {})", index + 1, table.via);
        let problem = |what: &str, cure: &str| {
            Finding::problem(CHECK, format!("{name}: {what}")).because(CONSEQUENCE).cured_by(cure)
        };
        let mut of_table = Vec::new();
        match &table.nodes {
            None => all = true,
            Some(Ok(nodes)) => covered = covered.union(nodes),
            Some(Err(why)) => of_table.push(problem(why, "`nodes` in this table of controller.toml")),
        }
        if let Err(why) = &table.program {
            of_table.push(problem(why, "install it: ipmitool, powerman or slurm-rollout; or mend `command`"));
        }
        of_table
            .extend(table.files.iter().map(|why| problem(why, "mend the file, or its key in this table")));
        let of_nodes = |(nodes, why): &(NodeSet, String)| {
            problem(why, "`address` in this table, or nodes_file").on(nodes.clone())
        };
        of_table.extend(table.without_address.iter().map(of_nodes));
        if of_table.is_empty() {
            of_table.push(Finding::ok(CHECK, format!("{name}: program and files can be used")));
        }
        findings.extend(of_table);
    }
    let others = known.map(|known| known.difference(&covered)).filter(|others| !all && !others.is_empty());
    if let Some(others) = others.filter(|_| !tables.is_empty()) {
        findings.push(
            Finding::warning(CHECK, "no table [[power]] has these nodes")
                .because("their power can be neither read nor switched")
                .cured_by("add them to `nodes` of a table in controller.toml")
                .on(others),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn nodes(text: &str) -> NodeSet {
        NodeSet::parse(text).unwrap()
    }

    fn table(nodes: Option<Result<NodeSet, String>>) -> TableFacts {
        TableFacts {
            via: "ipmi".to_owned(),
            nodes,
            program: Ok(()),
            files: Vec::new(),
            without_address: Vec::new(),
        }
    }

    fn levels(tables: &[TableFacts], known: Option<&str>) -> Vec<Level> {
        let known = known.map(nodes);
        power(tables, known.as_ref()).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_site_without_tables_has_no_finding() {
        assert_eq!(levels(&[], Some("n[1-2]")), []);
    }

    #[test]
    fn each_fault_is_a_problem_and_a_node_without_a_table_a_warning() {
        use Level::{Ok as Fine, Problem, Warning};
        assert_eq!(levels(&[table(None)], Some("n[1-2]")), [Fine]);
        assert_eq!(levels(&[table(Some(Ok(nodes("n1"))))], Some("n[1-2]")), [Fine, Warning]);
        assert_eq!(levels(&[table(Some(Ok(nodes("n1"))))], None), [Fine]);
        let broken = TableFacts {
            nodes: Some(Err("no such group".to_owned())),
            program: Err("/usr/bin/ipmitool is not there".to_owned()),
            files: vec!["/c: is open to others".to_owned()],
            without_address: vec![(nodes("n2"), "{bmc} is not known".to_owned())],
            ..table(None)
        };
        let findings = power(&[table(None), broken], Some(&nodes("n[1-2]")));
        let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Fine, Problem, Problem, Problem, Problem]);
        assert!(findings.iter().skip(1).all(|finding| finding.what.starts_with("table 2 (via ipmi): ")));
        assert_eq!(findings[4].nodes, Some(nodes("n2")));
    }
}
