//! Who belongs to a cluster, and who does no more. Asks nobody.
//!
//! A node that was removed lives on by itself, and its clients would hear nothing for ever. What it says of itself does not
//! count, since it may belong to another cluster by now: a node belongs to those who serve the slots as long as one of
//! them, or a node that they name, names it, whatever it serves and whether or not it answers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Answer, Line, lines};
use crate::clock::Moment;
use crate::config::Address;

/// So long nobody names a node before it counts as removed: nodes are told to forget it one by one, and who forgot it too early
/// hears of it again from the others.
const REMOVED_AFTER: Duration = Duration::from_secs(1);

/// Where the nodes are that belong to the cluster of these owners of slots. None: too few of the owners have answered to say
/// who does not.
pub(super) fn members(answers: &[Answer], owners: &HashSet<&Address>) -> Option<HashSet<Address>> {
    let told: HashMap<&str, &Answer> =
        answers.iter().filter_map(|answer| Some((answer.itself()?.id, answer))).collect();
    let itself_owns = |answer: &Answer| answer.itself().is_some_and(|line| owners.contains(&line.address));
    let mut heard: Vec<&str> =
        told.iter().filter(|(_, answer)| itself_owns(answer)).map(|(id, _)| *id).collect();
    if heard.len() * 2 <= owners.len() {
        return None;
    }
    let mut ids: HashSet<&str> = heard.iter().copied().collect();
    while let Some(answer) = heard.pop().map(|id| told.get(id)) {
        let named = answer.into_iter().flat_map(|answer| lines(answer)).filter(Line::is_there);
        heard.extend(named.map(|line| line.id).filter(|id| ids.insert(id)));
    }
    // Nodes may have several words for where one is.
    let places = answers.iter().filter(|answer| answer.itself().is_some_and(|line| ids.contains(line.id)));
    let places = places.flat_map(lines).filter(|line| line.is_there() && ids.contains(line.id));
    Some(places.map(|line| line.address).chain(owners.iter().map(|owner| (*owner).clone())).collect())
}

/// Since when nodes are not named any more.
#[derive(Default)]
pub(super) struct Absences {
    since: HashMap<Address, Moment>,
}

impl Absences {
    /// Those of the known nodes that count as removed from now on.
    pub(super) fn removed(
        &mut self,
        known: Vec<Address>,
        members: &HashSet<Address>,
        now: Moment,
    ) -> Vec<Address> {
        self.since.retain(|address, _| !members.contains(address));
        let absent = known.into_iter().filter(|address| !members.contains(address));
        absent
            .filter(|address| {
                let since = *self.since.entry(address.clone()).or_insert(now);
                now.since(since) >= REMOVED_AFTER
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address { host: "h".into(), port }
    }

    fn addresses(ports: &[u16]) -> HashSet<Address> {
        ports.iter().map(|port| address(*port)).collect()
    }

    /// What the node at `port` answers: its own line, and those of others, whose ids are their ports.
    fn answer(port: u16, others: &[u16]) -> Answer {
        let own = format!("id{port} h:{port}@1 myself,master - 0 0 1 connected\n");
        let others =
            others.iter().map(|other| format!("id{other} h:{other}@1 master,fail - 0 0 1 connected\n"));
        Answer { asked: address(port), text: others.fold(own, |text, line| text + &line) }
    }

    fn members_of(answers: &[Answer], owners: &[u16]) -> Option<HashSet<Address>> {
        let owners = addresses(owners);
        members(answers, &owners.iter().collect())
    }

    #[test]
    fn whoever_is_named_belongs_to_the_cluster_whatever_it_serves_and_whether_or_not_it_answers() {
        let answers = [answer(1, &[2, 3]), answer(2, &[1]), answer(3, &[4])];
        assert_eq!(members_of(&answers, &[1, 2]), Some(addresses(&[1, 2, 3, 4])));
        assert_eq!(members_of(&[answer(1, &[])], &[1]), Some(addresses(&[1])), "a cluster of one node");
    }

    #[test]
    fn nodes_that_only_each_other_name_do_not() {
        let answers = [answer(1, &[2]), answer(2, &[1]), answer(3, &[1, 2, 4]), answer(4, &[3])];
        assert_eq!(members_of(&answers, &[1, 2]), Some(addresses(&[1, 2])));
    }

    #[test]
    fn too_few_owners_of_slots_say_nothing_of_who_belongs_to_them() {
        let answers = [answer(1, &[2]), answer(3, &[]), answer(4, &[])];
        assert_eq!(members_of(&answers, &[1, 2]), None);
        assert_eq!(members_of(&answers, &[]), None);
    }

    #[test]
    fn a_node_is_a_member_wherever_others_say_that_it_is() {
        let mut one = answer(1, &[]);
        one.text.push_str("id3 elsewhere:3@1 master - 0 0 1 connected\n");
        let elsewhere = Address { host: "elsewhere".into(), port: 3 };
        let mut expected = addresses(&[1, 3]);
        expected.insert(elsewhere);
        assert_eq!(members_of(&[one, answer(3, &[1])], &[1]), Some(expected));
    }

    #[test]
    fn a_node_is_removed_once_it_was_not_named_for_long_enough() {
        let mut absences = Absences::default();
        let begin = Moment::now();
        let mut removed = |members: &[u16], seconds: f64| {
            let now = begin.after(Duration::from_secs_f64(seconds));
            absences.removed(vec![address(1), address(2)], &addresses(members), now)
        };
        assert_eq!(removed(&[1], 0.0), []);
        assert_eq!(removed(&[1], 0.9), []);
        assert_eq!(removed(&[1, 2], 1.0), []);
        assert_eq!(removed(&[1], 1.1), []);
        assert_eq!(removed(&[1], 2.0), []);
        assert_eq!(removed(&[1], 2.2), [address(2)]);
    }
}
