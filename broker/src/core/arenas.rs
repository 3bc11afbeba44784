//! Arenas: what a producer may have, who may read it, and what becomes of it when the producer stops.

use ringway_shm_protocol::control::message::{Refusal, RefusalCode};
use ringway_shm_protocol::partition::is_arena_size;
use serde::{Deserialize, Serialize};

use super::endpoints::Role;
use super::{Caller, Core, Effect, EndpointId, Outcome, Partition, Token, refuse};

/// Arenas from this number on are the shard's own: their messages are in the feed, or were published by the shard.
pub const SHARD_ARENAS: u32 = 1 << 31;

/// The refusal of an arena that is not there.
pub fn no_arena(partition: &Partition, arena: u32) -> Refusal {
    let message = format!("stream {} has no arena {arena} any more", partition.stream);
    Refusal { code: RefusalCode::NotFound, message }
}

/// An arena of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Arena {
    pub(super) bytes: u64,
    /// Its producer; `None` once that has stopped.
    pub(super) producer: Option<EndpointId>,
    /// The number of the request that made it.
    pub(super) request: u32,
}

impl Core {
    pub(super) fn make_arena(
        &mut self,
        token: Token,
        caller: Caller,
        endpoint: EndpointId,
        bytes: u64,
    ) -> Outcome {
        let (id, _) = self.producer(caller, endpoint)?;
        let stream = self.streams.get_mut(&id).expect("an open stream is not deleted");
        if !is_arena_size(bytes) {
            let message =
                format!("an arena of {bytes} bytes cannot be had: whole pages of 4096 bytes, two at least");
            return refuse(RefusalCode::Invalid, message);
        }
        // Asked for once more: what was made then was never handed over.
        let is_unanswered =
            |arena: &Arena| arena.producer == Some(endpoint) && arena.request == caller.request;
        let unanswered = stream.arenas.extract_if(.., |_, arena| is_unanswered(arena));
        let mut effects: Vec<_> = unanswered.map(|(arena, _)| Effect::DropArena(id, arena)).collect();
        let own = stream.arenas.values().filter(|arena| arena.producer == Some(endpoint));
        let (has, most) = (own.map(|arena| arena.bytes).sum::<u64>(), stream.settings.arenas_bytes_max());
        if bytes > most - has.min(most) {
            return refuse(
                RefusalCode::Limit,
                format!(
                    "a producer of stream {} may have {most} bytes of arenas; it has {has} and asks for {bytes} more",
                    stream.partition.stream
                ),
            );
        }
        if stream.arenas_made + 1 == SHARD_ARENAS {
            let message = format!("stream {} has no number left for an arena", stream.partition.stream);
            return refuse(RefusalCode::Limit, message);
        }
        stream.arenas_made += 1;
        let arena = stream.arenas_made;
        stream.arenas.insert(arena, Arena { bytes, producer: Some(endpoint), request: caller.request });
        effects.push(Effect::MakeArena { token, stream: id, arena, bytes });
        Ok(effects)
    }

    pub(super) fn retire_arena(
        &mut self,
        token: Token,
        caller: Caller,
        endpoint: EndpointId,
        arena: u32,
    ) -> Outcome {
        let (id, _) = self.producer(caller, endpoint)?;
        let stream = self.streams.get_mut(&id).expect("an open stream is not deleted");
        if stream.arenas.get(&arena).is_none_or(|found| found.producer != Some(endpoint)) {
            return refuse(RefusalCode::NotFound, format!("this producer has no arena {arena}"));
        }
        stream.arenas.remove(&arena);
        Ok(vec![Effect::DropArena(id, arena), Effect::Done(token)])
    }

    pub(super) fn open_arena(
        &mut self,
        token: Token,
        caller: Caller,
        endpoint: EndpointId,
        arena: u32,
    ) -> Outcome {
        let (Role::Consumer { stream, .. } | Role::Member { stream, .. }) =
            self.endpoint(caller, endpoint)?.role
        else {
            return refuse(RefusalCode::Invalid, format!("endpoint {} is no consumer", endpoint.0));
        };
        // The shard knows its own.
        if arena < SHARD_ARENAS && !self.streams[&stream].arenas.contains_key(&arena) {
            return Err(no_arena(&self.streams[&stream].partition, arena));
        }
        Ok(vec![Effect::GrantArena {
            token,
            stream,
            partition: self.streams[&stream].partition.clone(),
            arena,
        }])
    }
}
