//! Text to operators and operands.

use super::NodesetError;

/// Blanks between operands, as in a hostlist.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Operation on the nodes of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Union,
    Difference,
    Intersection,
    SymmetricDifference,
}

/// An operand as it is written, with the operator before it. The first one has a union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) operator: Operator,
    pub(super) operand: &'a str,
}

impl Operator {
    fn of(c: char) -> Option<Self> {
        match c {
            ',' => Some(Self::Union),
            '!' => Some(Self::Difference),
            '&' => Some(Self::Intersection),
            '^' => Some(Self::SymmetricDifference),
            _ => None,
        }
    }
}

/// Splits an expression. Blanks around an operator mean nothing; between two operands they are a union.
pub(super) fn scan(text: &str) -> Result<Vec<Scanned<'_>>, NodesetError> {
    let mut scanned = Vec::new();
    // The operator that waits for its right side.
    let mut waiting: Option<(char, usize, Operator)> = None;
    let mut rest = text.trim_start_matches(BLANKS);
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let length = match Operator::of(first) {
            Some(_) if waiting.is_some() || scanned.is_empty() => {
                return Err(NodesetError::MissingOperand { operator: first, at });
            }
            Some(operator) => {
                waiting = Some((first, at, operator));
                first.len_utf8()
            }
            None => {
                let operand = operand_at(rest);
                let operator = waiting.take().map_or(Operator::Union, |(_, _, operator)| operator);
                scanned.push(Scanned { operator, operand });
                operand.len()
            }
        };
        rest = rest.get(length..).unwrap_or_default().trim_start_matches(BLANKS);
    }
    match waiting {
        Some((operator, at, _)) => Err(NodesetError::MissingOperand { operator, at }),
        None => Ok(scanned),
    }
}

/// Returns the beginning of `rest`, up to a blank or operator outside brackets. It is never empty.
fn operand_at(rest: &str) -> &str {
    let mut inside = false;
    let mut ends = |c: char| {
        inside = (inside || c == '[') && c != ']';
        !inside && (BLANKS.contains(&c) || Operator::of(c).is_some())
    };
    rest.split(&mut ends).next().unwrap_or(rest)
}
