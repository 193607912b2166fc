#!/usr/bin/env bats
# The relay's protocol, as model/relay.pml has it: spin goes through every state that it can get into.

load helper

# search LEVEL NAME...: with these names defined in the model, and the search compiled with -O LEVEL. What spin says of it
# is in found. -DNP and -l: also that nothing goes round in circles.
search() {
	local level=$1 names

	shift
	names=("${@/#/-D}")
	cp "$ROOT/test/model/relay.pml" .
	limited spin -a "${names[@]}" relay.pml
	LIMIT=30 limited cc "-O$level" -DNP -DMEMLIM=900 -o pan pan.c
	LIMIT=300 limited ./pan -l -m10000 -w22 >found 2>&1 || true
	head -n 30 found
}

# right NAME...: the search was complete, and found no error.
right() {
	search 2 "$@"
	grep -q '^Full statespace search for:' found
	grep -q 'assertion violations	+' found
	grep -q 'non-progress cycles 	+' found
	grep -q ', errors: 0$' found
	! grep -iE 'not completed|too small|memlim|out of memory|truncated' found || false
}

# wrong ASSERTION NAME...: with the last of these names the protocol is wrong, and this assertion fails. ASSERTION is a basic
# regular expression.
wrong() {
	local assertion=$1

	shift
	search 0 "$@"
	grep -q "assertion violated $assertion (at depth" found
}

# What fails when, in the end, not all has arrived; and when the target is told of the end before.
UP_MISSING='((taken==[0-9]*)&&end_taken)'
UP_TRUNCATED='(taken==[0-9]*)'
DOWN_MISSING='((got==[0-9]*)&&down_done)'

# --- the protocol -----------------------------------------------------------------------

@test "upstream, every byte and the end arrive once and in order, whatever is lost, cut, repeated or late" {
	right UPSTREAM
}

@test "downstream, every byte and the end arrive once and in order, whatever is lost, cut, repeated or late" {
	right DOWNSTREAM
}

@test "so they do both ways at once" {
	right BOTH
}

@test "a target that takes no byte before the last one was read stalls nothing, nor must wait for the 10 s" {
	right ECHO
}

@test "nor does it when a request or an answer is lost, cut or late" {
	right ECHO FAULT
}

@test "a near end that reads nothing before all that it wrote was taken stalls nothing" {
	right LATE_READER
}

@test "a session has one connection to its target, and closes, whatever POST or DELETE is lost or late" {
	right OPENING
}

@test "a client may go by the highest upstream offset of all that it is told, in O too" {
	right BOTH HIGHEST_COUNTS
}

# --- its rules: without any one of them, spin finds how it fails -------------------------

@test "a relay that does not end a stream once its memory is full, and all of it sent, stalls the target" {
	wrong "$DOWN_MISSING" DOWNSTREAM NO_B
}

@test "and so it does an echo, where a fault may set it free, too" {
	wrong "$UP_MISSING" ECHO FAULT NO_B
}

@test "a relay that uses its memory anew before all in it is acknowledged sends wrong bytes" {
	wrong '(value==got)' DOWNSTREAM BEGINS_EARLY
}

@test "a relay that keeps bytes until they are sent, not acknowledged, lacks them after a cut" {
	wrong '(slot!=0)' DOWNSTREAM KEPT_UNTIL_SENT
}

@test "where a lower SEQ is served, a late GET takes the stream from a newer one" {
	wrong '(get\[slot\].seq>=get\[0\].seq)' DOWNSTREAM LOWER_SEQ
}

@test "an end taken from a stream that only stopped truncates it" {
	wrong "$DOWN_MISSING" DOWNSTREAM END_ON_CUT
}

@test "a client that counts what it sent, not what the relay says, loses bytes" {
	wrong "$UP_MISSING" UPSTREAM OWN_COUNT
}

@test "a relay that looks only once where a body begins doubles bytes" {
	wrong '(value==taken)' UPSTREAM SKIP_ONCE
}

@test "a relay that takes ?end behind a body that was cut truncates" {
	wrong "$UP_TRUNCATED" UPSTREAM END_OF_CUT_BODY
}

@test "a client that takes any answer with the last offset for its ?end's leaves the target without its end" {
	wrong "$UP_MISSING" UPSTREAM END_BY_OFFSET
}

@test "a relay that drops ?end with the rest of a stalled body loses it, if an older PUT brings that body's bytes" {
	wrong "$UP_MISSING" UPSTREAM STALL_DROPS_END
}

@test "a relay that forgets a session once both directions have ended fails a client that lost the last answer" {
	wrong '.*down_done.*' BOTH FORGETS_AT_END
}

@test "a relay that does not wait for a POST under way connects twice" {
	wrong '(connections==1)' OPENING OPENS_TWICE
}

@test "a relay that forgets a closed session opens it again for a late POST" {
	wrong '(connections==1)' OPENING FORGETS
}
