//! Arenas: what a producer may have, who may read it, and what becomes of it when the producer stops.

use ringway_shm_protocol::control::message::RefusalCode;
use ringway_shm_protocol::partition::is_arena_size;

use super::endpoints::Role;
use super::{Caller, Core, Effect, EndpointId, Outcome, Token, refuse};

/// An arena of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arena {
    pub(super) bytes: u64,
    /// Its producer; `None` once that has stopped.
    pub(super) producer: Option<EndpointId>,
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
        stream.arenas_made += 1;
        let arena = stream.arenas_made;
        stream.arenas.insert(arena, Arena { bytes, producer: Some(endpoint) });
        Ok(vec![Effect::MakeArena { token, stream: id, arena, bytes }])
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
        let Role::Consumer { stream, .. } = self.endpoint(caller, endpoint)?.role else {
            return refuse(RefusalCode::Invalid, format!("endpoint {} is no consumer", endpoint.0));
        };
        if !self.streams[&stream].arenas.contains_key(&arena) {
            let message =
                format!("stream {} has no arena {arena} any more", self.streams[&stream].partition.stream);
            return refuse(RefusalCode::NotFound, message);
        }
        Ok(vec![Effect::GrantArena(token, stream, arena)])
    }
}
