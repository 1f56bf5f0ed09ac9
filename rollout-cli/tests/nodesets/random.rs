//! Random groups and expressions, the same ones for the same seed.

/// A sequence of random numbers (SplitMix64).
pub(super) struct Random(pub(super) u64);

/// Sources of groups. A group names only groups of earlier sources, or earlier ones of its own: there are no circles.
const SOURCES: [&str; 3] = ["racks", "roles", "cpu"];
const GROUPS: usize = 5;

/// Files of one site, and expressions to evaluate there.
pub(super) struct Case {
    pub(super) yaml: String,
    pub(super) local: String,
    pub(super) expressions: Vec<String>,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    pub(super) fn case(&mut self) -> Case {
        let mut yaml = String::new();
        let mut known: Vec<(String, String)> = Vec::new();
        for source in SOURCES {
            yaml.push_str(&format!("{source}:\n"));
            for number in 1..=GROUPS {
                let group = format!("g{number}");
                yaml.push_str(&format!("    {group}: {}\n", self.definition(source, &known)));
                known.push((source.to_owned(), group));
            }
            yaml.push_str(&format!("    all: '{}'\n", compact(&self.expression(source, &known))));
        }
        let mut local = String::new();
        for group in ["adm", "io", "all"] {
            // Of several words, ClusterShell's wildcards take the union and its @* goes on with the operators.
            let more = if group == "all" { 0 } else { self.below(2) };
            let words = (0..=more).map(|_| compact(&self.expression("flat", &known)));
            local.push_str(&format!("{group}: {}\n", words.collect::<Vec<_>>().join(" ")));
        }
        known.extend([("local".to_owned(), "adm".to_owned()), ("local".to_owned(), "io".to_owned())]);
        let expressions = (0..60).map(|_| self.expression("local", &known)).collect();
        Case { yaml, local, expressions }
    }

    fn definition(&mut self, source: &str, known: &[(String, String)]) -> String {
        match self.below(4) {
            0 => {
                let items =
                    (0..=self.below(3)).map(|_| format!("'{}'", compact(&self.expression(source, known))));
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            1 if self.below(4) == 0 => "''".to_owned(),
            _ => format!("'{}'", compact(&self.expression(source, known))),
        }
    }

    fn expression(&mut self, source: &str, known: &[(String, String)]) -> String {
        let mut text = self.operand(source, known);
        for _ in 0..self.below(5) {
            let (before, behind) = (self.pick(&["", "", " "]), self.pick(&["", "", " "]));
            let operator = self.pick(&[",", ",", "!", "&", "^"]);
            text.push_str(&format!("{before}{operator}{behind}{}", self.operand(source, known)));
        }
        text
    }

    fn operand(&mut self, source: &str, known: &[(String, String)]) -> String {
        let low = self.below(16) + 1;
        let high = low + self.below(12);
        match self.below(12) {
            0..=2 => format!("cn[{low:02}-{high:02}]"),
            3 => format!("cn[{low:02},{:02}-{:02}]", low + 3, high + 4),
            4 => format!("cn{high:02}"),
            5 => format!("cn[{low:02}-{high:02}/{}]", self.below(3) + 1),
            6 => format!("r[1-{}]n[{}-9]-ib", self.below(3) + 1, self.below(8) + 1),
            7 => self.pick(&["login", "adm-1.x", "gpu_a"]).to_owned(),
            // A definition of all nodes that needs all nodes would be a circle.
            8 if source == "local" => self.pick(&["cn0*", "cn?1", "*9-ib", "l*n", "zz*"]).to_owned(),
            _ if known.is_empty() => format!("cn{low:02}"),
            _ => {
                let (of, group) = &known[self.below(known.len())];
                let number: usize = group.trim_start_matches('g').parse().unwrap_or(0);
                let complete = known.iter().filter(|(other, _)| other == of).count() >= GROUPS;
                match self.below(5) {
                    0 if number > 1 => format!("@{of}:g[1-{number}]"),
                    1 if complete && of != source && number > 0 => format!("@{of}:*"),
                    2 if of == source => format!("@{group}"),
                    _ => format!("@{of}:{group}"),
                }
            }
        }
    }
}

/// Returns an expression without blanks. To ClusterShell, they separate node sets in the definition of a group, so
/// there can be none around operators.
fn compact(expression: &str) -> String {
    expression.replace(' ', "")
}
