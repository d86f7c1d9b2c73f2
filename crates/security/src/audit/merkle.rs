//! The Merkle tree over the records of a log, as RFC 9162 section 2.1 (and RFC 6962 before it) defines it: the hash of
//! a leaf is SHA-256 of 0x00 and the record's line without its end, that of a node SHA-256 of 0x01 and its two
//! children. A tree head of 32 bytes stands for every record; a proof shows with a few hashes that a record is in it,
//! or that one tree begins with another.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf: of a record's line, without its end.
pub fn leaf_hash(line: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(line);
    hasher.finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// A tree that only grows and keeps no more than it needs for that: the roots of its full subtrees, one for each bit
/// of its size, the largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// A tree that was kept: its size and its [`Frontier::peaks`]. `None` when these do not fit each other.
    pub fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut full = self.size;
        // As in binary counting: each full subtree of the same height is taken into one twice as large.
        while full & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            full >>= 1;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the full subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The hash of the whole tree; of an empty one that of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The hash of the tree of these leaves.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The path that shows that the leaf at `index` is in the tree of these leaves (RFC 9162, 2.1.3.1). `None`: there is no
/// such leaf.
pub fn inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut rest, mut index, mut path) = (leaves, index, Vec::new());
    while rest.len() > 1 {
        let k = split(rest.len());
        let (left, right) = rest.split_at(k);
        if index < k {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            rest = right;
            index -= k;
        }
    }
    path.reverse();
    Some(path)
}

/// The path that shows that the tree of these leaves begins with that of the first `size` (RFC 9162, 2.1.4.1). `None`:
/// `size` is zero or more than there are.
pub fn consistency(leaves: &[Hash], size: usize) -> Option<Vec<Hash>> {
    if size == 0 || size > leaves.len() {
        return None;
    }
    let (mut rest, mut size, mut known, mut path) = (leaves, size, true, Vec::new());
    while size < rest.len() {
        let k = split(rest.len());
        let (left, right) = rest.split_at(k);
        if size <= k {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            rest = right;
            size -= k;
            known = false;
        }
    }
    // The old tree itself is left out: whoever checks has its root.
    if !known {
        path.push(root(rest));
    }
    path.reverse();
    Some(path)
}

/// Whether the path shows that `leaf` is the one at `index` in the tree of `size` leaves and this root (RFC 9162,
/// 2.1.3.2).
pub fn includes(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the path shows that the tree of `size` leaves and `root` begins with that of `first_size` leaves and
/// `first_root` (RFC 9162, 2.1.4.2).
pub fn is_consistent(first_size: u64, first_root: &Hash, size: u64, root: &Hash, path: &[Hash]) -> bool {
    if first_size == 0 || first_size > size {
        return false;
    }
    if first_size == size {
        return path.is_empty() && first_root == root;
    }
    let mut path = path.iter();
    let start = if first_size.is_power_of_two() { Some(first_root) } else { path.next() };
    let Some(start) = start else { return false };
    let (mut node, mut last) = (first_size - 1, size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*start, *start);
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(step, &old);
            new = node_hash(step, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *first_root && new == *root
}

/// Where a tree of so many leaves (at least two) parts: the largest power of two below.
fn split(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inputs and roots that the reference implementation of RFC 6962 (certificate-transparency,
    /// `merkletree/merkle_tree_test.cc`) and those after it are tested with.
    const INPUTS: [&[u8]; 8] = [
        &[],
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(n.to_string().as_bytes())).collect()
    }

    #[test]
    fn the_known_trees_have_the_known_roots() {
        let all: Vec<Hash> = INPUTS.iter().map(|input| leaf_hash(input)).collect();
        let mut frontier = Frontier::default();
        assert_eq!((hex::encode(root(&[])), hex::encode(frontier.root())), (NOTHING.into(), NOTHING.into()));
        for (index, leaf) in all.iter().enumerate() {
            frontier.push(*leaf);
            assert_eq!(hex::encode(root(&all[..=index])), ROOTS[index]);
            assert_eq!(hex::encode(frontier.root()), ROOTS[index]);
        }
    }

    /// The example of RFC 9162, 2.1.5: a tree of seven leaves and its earlier states.
    #[test]
    fn the_proofs_of_the_rfc_have_their_nodes() {
        let d = leaves(7);
        let (a, b, c, d_, e, f, j) = (d[0], d[1], d[2], d[3], d[4], d[5], d[6]);
        let (g, h, i) = (node_hash(&a, &b), node_hash(&c, &d_), node_hash(&e, &f));
        let (k, l) = (node_hash(&g, &h), node_hash(&i, &j));
        assert_eq!(inclusion(&d, 0).unwrap(), [b, h, l]);
        assert_eq!(inclusion(&d, 3).unwrap(), [c, g, l]);
        assert_eq!(inclusion(&d, 4).unwrap(), [f, j, k]);
        assert_eq!(inclusion(&d, 6).unwrap(), [i, k]);
        assert_eq!(consistency(&d, 3).unwrap(), [c, d_, g, l]);
        assert_eq!(consistency(&d, 4).unwrap(), [l]);
        assert_eq!(consistency(&d, 6).unwrap(), [i, j, k]);
        assert_eq!(inclusion(&d, 7), None);
        assert_eq!((consistency(&d, 0), consistency(&d, 8)), (None, None));
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_no_other() {
        let all = leaves(33);
        for size in 1..=all.len() {
            let tree = &all[..size];
            let head = root(tree);
            for index in 0..size {
                let path = inclusion(tree, index).unwrap();
                let holds = |leaf: &Hash, index: usize, size: usize, path: &[Hash]| {
                    includes(leaf, index as u64, size as u64, path, &head)
                };
                assert!(holds(&tree[index], index, size, &path), "{index} in {size}");
                assert!(!holds(&all[(index + 1) % 33], index, size, &path) || size == 1 && index == 32);
                assert!(size == 1 || !holds(&tree[index], (index + 1) % size, size, &path));
                assert!(!holds(&tree[index], size, size, &path));
                let longer = [path.as_slice(), &[head]].concat();
                assert!(!holds(&tree[index], index, size, &longer));
                assert!(path.is_empty() || !holds(&tree[index], index, size, &path[1..]));
            }
            for first in 1..=size {
                let old = root(&all[..first]);
                let path = consistency(tree, first).unwrap();
                let holds = |old: &Hash, new: &Hash, path: &[Hash]| {
                    is_consistent(first as u64, old, size as u64, new, path)
                };
                assert!(holds(&old, &head, &path), "{first} of {size}");
                let other = root(&leaves(40)[..size.min(39) + 1]);
                assert!(!holds(&other, &head, &path) || other == old);
                assert!(!holds(&old, &other, &path) || other == head);
                let longer = [path.as_slice(), &[head]].concat();
                assert!(!holds(&old, &head, &longer));
                assert!(path.is_empty() || !holds(&old, &head, &path[1..]));
            }
        }
        assert!(!is_consistent(0, &root(&[]), 3, &root(&all[..3]), &[]));
        assert!(!includes(&all[0], 0, 0, &[], &root(&[])));
    }

    #[test]
    fn a_kept_frontier_goes_on() {
        let all = leaves(100);
        let mut one = Frontier::default();
        for (index, leaf) in all.iter().enumerate() {
            one = Frontier::of(one.size(), one.peaks().to_vec()).unwrap();
            one.push(*leaf);
            assert_eq!(one.root(), root(&all[..=index]));
        }
        assert_eq!(Frontier::of(3, vec![[0; 32]]), None);
    }

    proptest! {
        #[test]
        fn no_changed_proof_holds(size in 1usize..200, at: prop::sample::Index, byte in 0usize..32, bit in 0u8..8) {
            let all = leaves(size);
            let (head, index) = (root(&all), at.index(size));
            let mut path = inclusion(&all, index).unwrap();
            prop_assert!(includes(&all[index], index as u64, size as u64, &path, &head));
            if !path.is_empty() {
                let step = at.index(path.len());
                path[step][byte] ^= 1 << bit;
                prop_assert!(!includes(&all[index], index as u64, size as u64, &path, &head));
            }
            let mut path = consistency(&all, index + 1).unwrap();
            if !path.is_empty() {
                let step = at.index(path.len());
                path[step][byte] ^= 1 << bit;
                prop_assert!(!is_consistent(index as u64 + 1, &root(&all[..=index]), size as u64, &head, &path));
            }
        }
    }
}
