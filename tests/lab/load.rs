//! Load on agents and controllers: thousands of nodes, thousands of agents, a flood of requests.

pub(crate) mod flood;
pub(crate) mod many_agents;
pub(crate) mod many_nodes;
