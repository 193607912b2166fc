/* SPDX-License-Identifier: ISC */

/*
 * The protocol of a session on a relay, for spin: does every byte arrive once and in order, and does every
 * run come to its end, whatever the network loses, cuts, repeats or delivers late?
 *
 *	spin -a -DUPSTREAM relay.pml && cc -O2 -DNP -o pan pan.c && ./pan -l
 *
 * One of these says what is looked at; the sizes are below:
 *
 * UPSTREAM	bytes from the near end to the target
 * DOWNSTREAM	bytes from the target to the near end
 * BOTH		fewer of them, both ways at once
 * ECHO		a target that takes no byte before the last one has found room on its way back
 * LATE_READER	a near end that reads nothing before all that it wrote was taken
 * OPENING	POST and DELETE, repeated and late
 *
 * With FAULT, ECHO has one, and fewer bytes. HIGHEST_COUNTS is another way to do it. Every further name after #ifdef
 * breaks one rule, and spin must object.
 *
 * How it is modelled:
 *
 * - A byte's value is its place in the stream, so that a lost, doubled or moved one shows at once. The ring and the
 *   relay's memory are real: what is freed too early is overwritten.
 * - Each request has a connection of its own. The one at which the client waits is live. The one fault is that
 *   the client gives up there, as no answer came, or a part of it. From then on the request is late: it reaches
 *   the relay at any time, behind newer ones too, or never, or cut behind any byte, and nobody hears its answer.
 *   So a lost request, a lost answer, a cut in either, a delay and a reordering are all this fault, followed by
 *   this or that. So is a proxy that repeats a PUT, for the client may send the same again. A proxy that repeats
 *   a GET makes a second one of the same SEQ, and this is the other fault.
 * - FAULTS bounds the faults; STALLS bounds the times that the target does not take bytes for 10 s. Nothing else
 *   is assumed. No step can be repeated for ever: nothing is labelled as progress, so that spin takes every cycle
 *   for an error. And once nothing can step, all must be done: see Judge.
 * - A step is atomic: above all, the relay compares a byte's offset with the one expected, gives the byte to the
 *   target and counts it, in one.
 * - Left out: time (waits, heartbeats, the 120 s), empty PUTs, X, and what proxies refuse. The end of the answer to a
 *   poll is a stream that the relay ends behind any byte; B is one that it ends where its memory is full and all is sent.
 */

/* --- sizes ------------------------------------------------------------------------------ */

#if defined(UPSTREAM)
#define UP_TOTAL	5	/* bytes that the near end writes */
#define DOWN_TOTAL	0	/* bytes that the target writes */
#define DOWN_OVER	true	/* that direction has ended already */
#define FAULTS		3
#define STALLS		1
#elif defined(DOWNSTREAM)
#define UP_TOTAL	0
#define UP_OVER		true
#define DOWN_TOTAL	4
#define FAULTS		2
#define STALLS		0
#elif defined(BOTH)
#define UP_TOTAL	3
#define UP_RING		2
#define DOWN_TOTAL	1
#define FAULTS		1
#define STALLS		0
#elif defined(ECHO) && defined(FAULT)
#define UP_TOTAL	3
#define DOWN_TOTAL	3
#define WINDOW		1
#define FAULTS		1
#define STALLS		0
#elif defined(ECHO)
#define UP_TOTAL	4
#define DOWN_TOTAL	4
#define FAULTS		0
#define STALLS		0	/* it must not need the 10 s */
#elif defined(LATE_READER)
#define UP_TOTAL	3
#define DOWN_TOTAL	3
#define FAULTS		1
#define STALLS		0
#elif defined(OPENING)
#define UP_TOTAL	2
#define DOWN_TOTAL	0
#define DOWN_OVER	true
#define FAULTS		4
#define STALLS		0
#endif

#ifndef UP_OVER
#define UP_OVER		false
#endif
#ifndef DOWN_OVER
#define DOWN_OVER	false
#endif

#define BODY_MAX	2
#ifndef UP_RING
#define UP_RING		3	/* bytes that the client keeps until they were taken */
#endif
#ifndef WINDOW
#define WINDOW		2	/* bytes that the relay keeps until they were acknowledged */
#endif

/* --- the state -------------------------------------------------------------------------- */

mtype = { NONE, TRAVELLING, SERVED, ANSWERED, REFUSED, ENDED };	/* a request */
mtype = { ABSENT, CONNECTING, STANDS, CLOSED };			/* the session on the relay */
mtype = { O, D, E };						/* a frame */

typedef Put {
	mtype state = NONE;
	byte offset;
	byte length;
	bool end;		/* ?end */
	byte answer;
	byte body[BODY_MAX];	/* of a late one: the live one's is in the ring, whatever becomes of that meanwhile */
#ifdef SKIP_ONCE
	byte next;		/* the offset of the byte that the relay gives to the target next */
#endif
}

typedef Get {
	mtype state = NONE;
	byte offset;
	byte seq;
}

#define LIVE	0		/* the PUT, and the GET, at which the client waits */
#define PUTS	(1 + FAULTS)	/* the others are late */
#define GETS	(1 + FAULTS)
#define NOBODY	255

/* The network. */
Put put[PUTS];
Get get[GETS];
chan stream = [2] of { mtype, byte };	/* frames on their way to the live GET */
#ifdef OPENING
mtype opening = NONE;			/* POST */
#else
mtype opening = ANSWERED;
#endif
mtype closing = NONE;			/* DELETE */
byte late_openings, late_closings;	/* one is like another */
byte faults = FAULTS, stalls = STALLS;

/* The client. */
byte given;			/* bytes that the near end wrote */
bool near_ended = UP_OVER;
byte base;			/* those before were taken, as far as it knows */
byte up_ring[UP_RING];
bool up_done = UP_OVER;
byte got;			/* downstream bytes that arrived */
byte last_seq;
bool down_done = DOWN_OVER;

/* The relay, and the target. */
#ifdef OPENING
mtype session = ABSENT;
byte connections;		/* made to the target */
#else
mtype session = STANDS;
byte connections = 1;
#endif
byte expected;			/* the upstream offset expected next */
bool end_taken = UP_OVER;
byte read;			/* bytes read from the target */
byte acked;			/* those before were acknowledged */
byte origin;			/* the memory begins with this one */
byte memory[WINDOW];
byte served = NOBODY;		/* the GET whose stream is being written */
byte position;			/* the offset of that stream's next byte */
byte highest_seq;
byte taken;			/* bytes that the target took */
bool target_ended = DOWN_OVER;
bool echo_full;			/* an echo holds a byte that it has not written back */
byte echo_byte;

/* For use within one step. (A d_step may not end with a choice: hence skip, here and there.) */
hidden byte i, late, value;
hidden mtype frame;

/* --- requests come and go ----------------------------------------------------------------- */

inline put_clear(slot)
{
	put[slot].state = NONE;
	put[slot].offset = 0;
	put[slot].length = 0;
	put[slot].end = false;
	put[slot].answer = 0;
	put[slot].body[0] = 0;
	put[slot].body[1] = 0;
#ifdef SKIP_ONCE
	put[slot].next = 0
#endif
}

/* Only the order of the SEQs counts: with no GET left anywhere they may begin anew. */
inline get_clear(slot)
{
	get[slot].state = NONE;
	get[slot].offset = 0;
	get[slot].seq = 0;
	i = 0;
	do
	:: i < GETS && get[i].state == NONE -> i++
	:: else -> break
	od;
	if
	:: i == GETS ->
		last_seq = 0;
		highest_seq = 0
	:: else
	fi;
	skip
}

/* The client waits at this PUT no more. */
inline put_leave(slot)
{
	late = LIVE + 1;
	do
	:: put[late].state != NONE -> late++
	:: else -> break
	od;
	put[late].state = TRAVELLING;
	put[late].offset = put[slot].offset;
	put[late].length = put[slot].length;
	put[late].end = put[slot].end;
	put[late].body[0] = (put[slot].length > 0 -> up_ring[put[slot].offset % UP_RING] : 0);
	put[late].body[1] = (put[slot].length > 1 -> up_ring[(put[slot].offset + 1) % UP_RING] : 0);
#ifdef SKIP_ONCE
	put[late].next = put[slot].next;
#endif
	put_clear(slot)
}

/* Once more the same GET, at which nobody waits. */
inline get_repeat()
{
	late = LIVE + 1;
	do
	:: get[late].state != NONE -> late++
	:: else -> break
	od;
	get[late].state = get[LIVE].state;
	get[late].offset = get[LIVE].offset;
	get[late].seq = get[LIVE].seq
}

inline get_leave()
{
	get_repeat();
	served = (served == LIVE -> late : served);
	get_clear(LIVE);
	do
	:: stream?frame,value
	:: empty(stream) -> break
	od;
	skip
}

/* An answer that was given and then lost need not be told from one that a late request got. */
active proctype Network()
{
end:	do
	:: d_step { faults > 0 && put[LIVE].state == TRAVELLING -> faults--; put_leave(LIVE) }
	:: d_step { faults > 0 && (get[LIVE].state == TRAVELLING || get[LIVE].state == SERVED) -> faults--; get_leave() }
	:: d_step { faults > 0 && get[LIVE].state == TRAVELLING -> faults--; get_repeat() }
	:: d_step { faults > 0 && opening == TRAVELLING -> faults--; late_openings++; opening = NONE }
	:: d_step { faults > 0 && closing == TRAVELLING -> faults--; late_closings++; closing = NONE }
	od
}

/* --- the near end, and the client upstream -------------------------------------------------- */

active proctype NearEnd()
{
end:	do
	:: d_step { given < UP_TOTAL && given - base < UP_RING ->
		up_ring[given % UP_RING] = given;
		given++
	}
	:: d_step { given == UP_TOTAL && !near_ended -> near_ended = true }
	od
}

inline put_send(slot, count)
{
	put[slot].state = TRAVELLING;
	put[slot].offset = base;
	put[slot].length = count;
	put[slot].end = (near_ended && base + count == given)
}

/* The relay has said which offset it expects. The client goes by the answers to PUTs with a body alone, in which that is
   never less than before: O may have been said long ago. */
inline base_move(expects)
{
	assert(expects <= given);
#ifdef HIGHEST_COUNTS
	base = (expects > base -> expects : base);
#else
	assert(expects >= base);
	base = expects;
#endif
#ifdef END_BY_OFFSET
	up_done = up_done || (near_ended && base == given)
#endif
}

/* The same, in O. */
inline base_move_by(expects)
{
#ifdef HIGHEST_COUNTS
	base_move(expects)
#else
	skip
#endif
}

#define may_put		(opening == ANSWERED && put[LIVE].state == NONE && !up_done)

active proctype ClientUp()
{
end:	do
	/* "One PUT with a body under way at a time." After a failure it may hold more than before, or less. */
	:: d_step { may_put && given >= base + 1 -> put_send(LIVE, 1) }
	:: d_step { may_put && given >= base + 2 -> put_send(LIVE, 2) }
	:: d_step { may_put && given == base && near_ended -> put_send(LIVE, 0) }
	/* "The offset expected next (it may be lower than the end of what was sent: send again from there)." It may
	   be higher as well, if an older PUT had more in it. Only an answer to ?end says that the end was taken:
	   others may bear the same offset. */
	:: d_step { put[LIVE].state == ANSWERED ->
#ifdef OWN_COUNT
		base = put[LIVE].offset + put[LIVE].length;
		up_done = put[LIVE].end;
#else
		up_done = up_done || (put[LIVE].end && put[LIVE].answer == put[LIVE].offset + put[LIVE].length);
		base_move(put[LIVE].answer);
#endif
		put_clear(LIVE)
	}
	od
}

/* --- the client downstream, and the session's beginning and end ------------------------------ */

#ifdef LATE_READER
#define near_end_reads	up_done
#else
#define near_end_reads	true
#endif

active proctype ClientDown()
{
end:	do
	:: d_step { opening == ANSWERED && get[LIVE].state == NONE && !down_done ->
		last_seq++;
		get[LIVE].state = TRAVELLING;
		get[LIVE].offset = got;
		get[LIVE].seq = last_seq
	}
	:: d_step { near_end_reads && nempty(stream) ->
		stream?frame,value;
		if
		:: frame == O -> base_move_by(value)
		:: frame == D ->
			assert(value == got);		/* downstream: no byte lost, doubled or moved */
			got++
		:: frame == E ->
			assert(got == DOWN_TOTAL);	/* downstream: the end is not before the last byte */
			down_done = true
		fi;
		skip
	}
	/* "Only E is an end: a cut looks like an orderly close." It asks again, from where it is. */
	:: d_step { get[LIVE].state == ENDED && empty(stream) ->
#ifdef END_ON_CUT
		down_done = true;
#endif
		get_clear(LIVE)
	}
	:: d_step { get[LIVE].state == REFUSED -> get_clear(LIVE) }
	od
}

/* It closes only when both directions are done. */
active proctype ClientSession()
{
end:	do
	:: d_step { opening == NONE -> opening = TRAVELLING }
	:: d_step { closing == NONE && up_done && down_done -> closing = TRAVELLING }
	od
}

/* --- the target --------------------------------------------------------------------------- */

#ifdef ECHO
#define target_takes	(!echo_full)
#else
#define target_takes	true
#endif

inline target_take(byte_taken)
{
	assert(byte_taken == taken);	/* upstream: no byte lost, doubled or moved */
	taken++;
#ifdef ECHO
	echo_byte = byte_taken;
	echo_full = true
#endif
}

inline target_take_end()
{
	assert(taken == UP_TOTAL);	/* upstream: the end is not before the last byte */
	end_taken = true
}

/* "The relay keeps up to 8 MiB that were not acknowledged": it reads no further. */
#define room	(read - origin < WINDOW)

active proctype Target()
{
end:	do
#ifdef ECHO
	:: d_step { echo_full && room ->
		memory[read - origin] = echo_byte;
		read++;
		echo_byte = 0;
		echo_full = false
	}
	:: d_step { end_taken && !echo_full && !target_ended -> target_ended = true }
#else
	:: d_step { read < DOWN_TOTAL && room ->
		memory[read - origin] = read;
		read++
	}
	:: d_step { read == DOWN_TOTAL && !target_ended -> target_ended = true }
#endif
	od
}

/* --- the relay: PUT ------------------------------------------------------------------------- */

#define here		(put[slot].state == TRAVELLING && session == STANDS)
#define body_end	(put[slot].offset + put[slot].length)

#ifdef SKIP_ONCE
#define byte_left	((put[slot].next == 0 -> expected : put[slot].next) < body_end)
#else
#define byte_left	(expected < body_end)
#endif

#ifdef STALL_DROPS_END
#define end_reached	(put[slot].end && !stalled)
#else
#define end_reached	(put[slot].end && expected >= body_end)
#endif

/* ?end holds behind the whole body only; and it does so too when the target has some of that from an older PUT, and
   the rest of this one was dropped. The client takes the answer for it. */
inline put_answer(stalled)
{
	if
	:: end_reached && !end_taken -> target_take_end()
	:: else
	fi;
	if
	:: slot > LIVE -> put_clear(slot)
	:: else ->
		put[slot].state = ANSWERED;
		put[slot].answer = expected
	fi;
	skip
}

inline put_byte(offset_taken)
{
	value = offset_taken - put[slot].offset;
	value = (slot == LIVE -> up_ring[(offset_taken) % UP_RING] : put[slot].body[value])
}

/* One for each connection: several may have the same bytes. Each byte of a body is looked at by itself, when its turn
   comes: one before the offset expected is dropped, the one at it goes to the target. So it makes no difference how
   far each has got in its body. */
proctype RelayPut(byte slot)
{
end:	do
	:: d_step { here && put[slot].offset <= expected && byte_left && target_takes ->
#ifdef SKIP_ONCE
		put[slot].next = (put[slot].next == 0 -> expected : put[slot].next);
		put_byte(put[slot].next);
		put[slot].next++;
#else
		put_byte(expected);
#endif
		target_take(value);
		expected++
	}
	:: d_step { here && expected >= body_end -> put_answer(false) }
	/* "A PUT whose bytes the target does not take for 10 s is answered with the offset reached (the rest of the
	   body read and dropped)." */
	:: d_step { here && put[slot].length > 0 && slot == LIVE && stalls > 0 -> stalls--; put_answer(true) }
	/* What begins beyond the offset expected is dropped. No client that keeps to the rules sends it. */
	:: d_step { here && put[slot].offset > expected ->
#ifndef OWN_COUNT
		assert(false);
#endif
		put_answer(false)
	}
	/* A late one is lost, or the rest of it. */
	:: d_step { slot > LIVE && put[slot].state == TRAVELLING ->
#ifdef END_OF_CUT_BODY
		if
		:: put[slot].end && !end_taken -> target_take_end()
		:: else
		fi;
#endif
		put_clear(slot)
	}
	/* "410: no such session, final." */
	:: d_step { session == CLOSED && put[slot].state == TRAVELLING ->
		assert(slot > LIVE || (up_done && down_done));
		put_clear(slot)
	}
	od
}

/* --- the relay: GET ------------------------------------------------------------------------- */

#ifdef LOWER_SEQ
#define too_old		false
#else
#define too_old		(get[slot].seq < highest_seq)
#endif

/* "Every downstream byte before OFFSET has arrived": once all that was read has, the memory begins anew. */
inline relay_ack(n)
{
	acked = n;
#ifdef BEGINS_EARLY
	origin = n
#else
	origin = (n == read -> n : origin)
#endif
}

#define not_there	(get[slot].offset < acked || get[slot].offset > read)

proctype RelayGet(byte slot)
{
end:	do
	:: d_step { get[slot].state == TRAVELLING && session == STANDS ->
		if
		/* "A higher SEQ replaces an older GET, a lower one gets 409." */
		:: too_old && slot == LIVE -> get[LIVE].state = REFUSED
		:: too_old && slot != LIVE -> get_clear(slot)
		/* "416: an offset that the relay no longer has or does not have yet." */
		:: !too_old && not_there ->
			assert(slot != LIVE);
			get_clear(slot)
		:: else ->
			if
			:: served == LIVE ->
				assert(get[slot].seq >= get[LIVE].seq);	/* no late GET cuts a newer one's stream */
				get[LIVE].state = ENDED
			:: served != LIVE && served != NOBODY -> get_clear(served)
			:: else
			fi;
			get[slot].state = SERVED;
			highest_seq = get[slot].seq;
			served = slot;
			position = get[slot].offset;
			relay_ack(position);
			get[slot].offset = 0;
			if
			:: slot == LIVE -> stream!O,expected	/* "first and at once" */
			:: else
			fi
		fi;
		skip
	}
	/* A late one is lost, or its stream found to be dead; or it gets 410. */
	:: d_step { slot != LIVE && get[slot].state != NONE ->
		if
		:: served == slot ->
			served = NOBODY;
			position = 0
		:: else
		fi;
		get_clear(slot)
	}
	:: d_step { session == CLOSED && slot == LIVE && get[LIVE].state == TRAVELLING -> assert(down_done) }
	od
}

inline stream_write()
{
	assert(position >= acked);	/* what is sent is still kept */
	if
	:: served == LIVE ->
		stream!D,memory[position - origin];
		position++
	:: else -> position = read	/* nobody will read it: all at once, then */
	fi;
#ifdef KEPT_UNTIL_SENT
	relay_ack(position);
#endif
	skip
}

inline stream_end()
{
	if
	:: served == LIVE -> get[LIVE].state = ENDED
	:: else -> get_clear(served)
	fi;
	served = NOBODY;
	position = 0
}

#define can_write	(served != NOBODY && (served != LIVE || nfull(stream)))

active proctype RelayStream()
{
end:	do
	:: d_step { can_write && position < read -> stream_write() }
	:: d_step { can_write && position < read -> stream_write(); stream_end() }	/* the end of a poll, or a while later B */
#ifndef NO_B
	:: d_step { can_write && position == read && !room -> stream_end() }		/* B: only the next GET acknowledges */
#endif
	:: d_step { can_write && position == read && target_ended ->
		if
		:: served == LIVE -> stream!E,0
		:: else
		fi;
		stream_end();
#ifdef FORGETS_AT_END
		session = (end_taken -> CLOSED : session)
#endif
	}
	od
}

/* --- the relay: POST and DELETE ------------------------------------------------------------- */

#ifdef FORGETS
#define GONE	ABSENT
#else
#define GONE	CLOSED
#endif

/* A POST while another is connecting waits for what comes of that. A session that was closed is remembered, or a
   late POST would open it again and a late PUT be taken a second time. */
active proctype RelaySession()
{
end:	do
	:: d_step { session == ABSENT && opening == TRAVELLING -> session = CONNECTING }
	:: d_step { session == ABSENT && late_openings > 0 -> session = CONNECTING; late_openings-- }
#ifdef OPENS_TWICE
	:: d_step { session == CONNECTING && late_openings > 0 -> connections++; late_openings-- }
#endif
	:: d_step { session == CONNECTING ->
		connections++;
		assert(connections == 1);
		session = STANDS
	}
	:: d_step { session == STANDS && opening == TRAVELLING -> opening = ANSWERED }	/* 201, 200 */
	:: d_step { late_openings > 0 -> late_openings-- }	/* 200, 410, lost */
	:: d_step { closing == TRAVELLING -> session = GONE; closing = ANSWERED }	/* 204, 410 */
	:: d_step { late_closings > 0 -> session = GONE; late_closings-- }
	:: d_step { late_closings > 0 -> late_closings-- }	/* lost */
	od
}

/* --- the end -------------------------------------------------------------------------------- */

active proctype Judge()
{
	timeout;
	assert(taken == UP_TOTAL && end_taken);		/* upstream: all has arrived */
	assert(got == DOWN_TOTAL && down_done);		/* downstream: all has arrived */
	assert(up_done && closing == ANSWERED)		/* the client knows, and has left */
}

init {
	byte slot;

	atomic {
		for (slot : 0 .. PUTS - 1) { run RelayPut(slot) }
		for (slot : 0 .. GETS - 1) { run RelayGet(slot) }
	}
}
