# SPDX-License-Identifier: ISC
# shellcheck shell=bash disable=SC2034,SC2153,SC2154
#
# The far side, for run: what is measured of proxies, this program's --serve and every other that is
# installed. Each round starts each of them anew, as a memory that was once used is not always given back.

OPENINGS=1000 AT_ONCE=8	# new tunnels in a measurement, and how many of them at once

declare -a PROXIES=()
declare -A PROGRAMS=()

# proxy NAME KIND VERSION [PROGRAM]: KIND as for tool; PROGRAM of what is ours.
proxy() {
	PROXIES+=("$1")
	PROGRAMS[$1]=${4:-}
	record tool "$1" "$2" "$3"
}

proxies_ours() {
	proxy proxytunnel ours "$VERSION" "$PLAIN"
	proxy proxytunnel-again again "$VERSION" "$PLAIN"
	static_build && proxy proxytunnel-static ours "$VERSION" "$STATIC"
}

proxies_others() {
	local name package version

	for name in tinyproxy:tinyproxy-bin squid:squid ncat:ncat; do
		package=${name#*:} name=${name%:*}
		version=$(version_of "$name" "$package") && proxy "$name" other "$version"
	done
}

# proxy_begin NAME: sets PORT and PID. Each may have as many clients as are needed, and writes its usual log.
proxy_begin() {
	local clients=$((TUNNELS + 100))

	case $1 in
	tinyproxy | squid) CLIENTS=$clients "start_$1" ;;
	ncat) server_folder "$1" && begin_command ncat -l 127.0.0.1 @PORT --proxy-type http -m "$clients" ;;
	*)
		# As nobody may reach this copy.
		server_folder "$1" && cp "${PROGRAMS[$1]}" "$SERVER_DIR/proxytunnel" &&
			begin_command "$SERVER_DIR/proxytunnel" --serve -a 127.0.0.1:@PORT --allow 127.0.0.1:* --max-clients "$clients"
		;;
	esac
}

# begin_command WORD...: its configuration is its command line.
begin_command() {
	proxy_start sh "$SERVER_DIR/conf" <<-END
		exec ${*@Q}
	END
}

# measure_far MEASURE: prints "VALUE CPU PEAK" of the proxy that runs.
measure_far() {
	local words=()

	case $1 in
	far-idle) words=(-n "$TUNNELS" crowd) ;;
	far-new) words=(-n "$OPENINGS" new) ;;
	far-some) words=(-n "$OPENINGS" -a "$AT_ONCE" new) ;;
	*) words=(-n "$FAR_SIZE" "${1#far-}") ;;
	esac
	drive -p "$PORT" -s "$PID" "${words[@]}"
}

# round_far ROUND MEASURE...
round_far() {
	local round=$1 measure i name figures PORT PID SERVER_DIR

	shift
	for i in "${!PROXIES[@]}"; do
		name=${PROXIES[(i + round) % ${#PROXIES[@]}]}
		say "round $round of $ROUNDS: the far side, $name"
		proxy_begin "$name" || continue
		for measure; do
			figures=$(measure_far "$measure" 2>>"$BIN/log")
			[ -n "$figures" ] || say "$measure fails with $name; $BIN/log says why"
			record value "$measure" "$name" "${figures:-failed}"
		done
		server_stop "$PID"
	done
}

# Of the transfers half a SIZE is enough, as many a proxy is slow. The proxies need two descriptors for each tunnel, and so do we.
far_begin() {
	local descriptors=$((2 * TUNNELS + 300))

	side_begin far
	FAR_SIZE=$(($(bytes "$SIZE") / 2))
	record fact size "$FAR_SIZE"
	record fact tunnels "$TUNNELS"
	record fact openings "$OPENINGS"
	record fact at_once "$AT_ONCE"
	[ "$(ulimit -Sn)" = unlimited ] || [ "$(ulimit -Sn)" -ge "$descriptors" ] || ulimit -Sn "$descriptors" ||
		say "ulimit -n is below $descriptors: not all can have $TUNNELS tunnels"
	proxies_ours
	proxies_others
}
