# SPDX-License-Identifier: ISC
# shellcheck shell=bash disable=SC2034,SC2153,SC2154
#
# The relay, for run: tunnels without CONNECT, this program's and httptunnel's, each on several ways to where
# it ends. Every measurement starts both ends anew.

RELAY_LIMIT=8		# s, of one measurement
RELAY_TRIPS=500		# of which each measurement is the median
DELAY=25		# ms each way, on the way that is named far
REST=0.1		# s

declare -a RELAYS=()
declare -A RELAY_WAYS=(	# of each measure
	[relay-down]='direct squid haproxy' [relay-up]='direct squid haproxy' [relay-far-down]=far [relay-far-up]=far
	[relay-rtt]='direct squid tinyproxy privoxy apache chain nginx haproxy'
)
declare -A WAY_PORTS	# where each way begins; one for round trips is "rtt" and its name, and on the driver's processor
declare -A RELAY_FAILED
FAULT=			# the process that delays

# For report.awk each of them is a tool on each way.
relays_record() {
	local version way

	version=$(version_of hts httptunnel) || version=
	RELAYS=(proxytunnel proxytunnel-again ${version:+httptunnel})
	for way in ${RELAY_WAYS[relay-rtt]} far; do
		record tool "$way/proxytunnel" ours "$VERSION"
		record tool "$way/proxytunnel-again" again "$VERSION"
		[ -z "$version" ] || record tool "$way/httptunnel" other "$version"
	done
}

relay_begin() {
	side_begin relay
	RELAY_SIZE=$(($(bytes "$SIZE") / 4))
	record fact size "$RELAY_SIZE"
	record fact far_size "$((RELAY_SIZE / 2))"
	record fact far_least "$((RELAY_SIZE / 32))"
	record fact limit "$RELAY_LIMIT"
	record fact trips "$RELAY_TRIPS"
	relays_record
	free_port
	BEHIND=$PORT	# where nginx and haproxy look for a relay
	ways_begin "$@"
}

# ways_begin MEASURE...
ways_begin() {
	local all name version

	for name in squid:squid tinyproxy:tinyproxy-bin privoxy:privoxy apache2:apache2-bin nginx:nginx haproxy:haproxy; do
		version=$(version_of "${name%:*}" "${name#*:}") && record version "${name%:*}" "$version"
	done
	all=$(taskset -pc $$)
	all=${all##* }
	case " $* " in
	*' relay-rtt '*)
		taskset -pc "${all##*[,-]}" $$ >/dev/null	# the last, as the driver does
		ways_start rtt "${RELAY_WAYS[relay-rtt]}"
		taskset -pc "$all" $$ >/dev/null
		;;
	esac
	case " $* " in
	*-down\ * | *-up\ *) ways_start '' 'direct squid haproxy far' ;;
	esac
}

# ways_start PREFIX WAYS
ways_start() {
	local way

	for way in $2; do
		if way_start "$way" >>"$BIN/log" 2>&1; then
			WAY_PORTS[$1$way]=$PORT
		else
			say "no way $way; $BIN/log says why"
		fi
	done
}

# way_start WAY: sets PORT.
way_start() {
	case $1 in
	direct) PORT=- ;;
	nginx | haproxy) "start_$1" "$BEHIND" ;;
	chain) start_squid && UPSTREAM=$PORT start_tinyproxy ;;
	far) start_squid && fault_start "$PORT" ;;
	*) "start_$1" ;;
	esac
}

# fault_start PORT: what goes there takes a while, each way.
fault_start() {
	helper_build fault "$BENCH/../fault.c"
	"$BIN/fault" -d "$DELAY" -t 86400 -p "$SERVERS/fault" "$1" &
	FAULT=$!
	while [ ! -e "$SERVERS/fault" ] && kill -0 "$FAULT"; do
		sleep 0.02
	done
	read -r PORT <"$SERVERS/fault"
}

# relay_words NAME WAY PORT: sets WORDS to the commands of both ends, RELAY to the port of the far one. That is a new
# one where it can be, and else there is a rest before: what a proxy still sends to the last one is not for the next.
relay_words() {
	local at proxy=

	free_port
	RELAY=$PORT at=127.0.0.1:$PORT
	case $2 in
	direct) ;;
	nginx | haproxy)
		RELAY=$BEHIND at=127.0.0.1:$3
		sleep "$REST"
		;;
	*) proxy=127.0.0.1:$3 ;;
	esac
	case $1 in
	httptunnel) WORDS=(hts -w -F 127.0.0.1:%P "127.0.0.1:$RELAY" -- htc -s ${proxy:+-P "$proxy"} "$at") ;;
	*)
		WORDS=("$PLAIN" --serve -a "127.0.0.1:$RELAY" --allow '127.0.0.1:*' --)
		WORDS+=("$PLAIN" --relay "http://$at/t" ${proxy:+-p "$proxy"} -d 127.0.0.1:%P)
		;;
	esac
}

# relay_size MEASURE NAME: prints how much to carry. httptunnel is too slow from afar for more than a little.
relay_size() {
	case $1/$2 in
	relay-far-*/httptunnel) echo $((RELAY_SIZE / 32)) ;;
	relay-far-*) echo $((RELAY_SIZE / 2)) ;;
	*) echo "$RELAY_SIZE" ;;
	esac
}

# measure_relay MEASURE NAME: prints "VALUE CPU PEAK", and how much was carried, with WORDS.
measure_relay() {
	local LIMIT=$RELAY_LIMIT size

	if [ "$1" = relay-rtt ]; then
		drive -1 -n "$RELAY_TRIPS" -r "$RELAY" rtt1 "${WORDS[@]}"
	else
		size=$(relay_size "$1" "$2")
		drive -n "$size" -r "$RELAY" "${1##*-}" "${WORDS[@]}" | sed "s/$/ $size/"
	fi
}

# relay_once MEASURE WAY NAME: what has failed there is not tried again, as it took all the time that it had.
relay_once() {
	local figures port RELAY WORDS

	case $1 in
	relay-rtt) port=${WAY_PORTS[rtt$2]:-} ;;
	*) port=${WAY_PORTS[$2]:-} ;;
	esac
	[ -n "$port" ] && [ -z "${RELAY_FAILED[$*]:-}" ] || return
	relay_words "$3" "$2" "$port"
	figures=$(measure_relay "$1" "$3" 2>>"$BIN/log")
	[ -n "$figures" ] || {
		RELAY_FAILED[$*]=1
		say "$1 by the way $2 fails with $3; $BIN/log says why"
	}
	record value "${1/-far/}" "$2/$3" "${figures:-failed}"
}

# round_relay ROUND MEASURE...
round_relay() {
	local round=$1 measure way i

	shift
	for measure; do
		say "round $round of $ROUNDS: $measure"
		for way in ${RELAY_WAYS[$measure]}; do
			for i in "${!RELAYS[@]}"; do
				relay_once "$measure" "$way" "${RELAYS[(i + round) % ${#RELAYS[@]}]}"
			done
		done
	done
}
