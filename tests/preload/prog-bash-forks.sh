# SPDX-License-Identifier: MIT
# Work for prog-bash.test, in bash: about 1500 forks with results that are
# checked.  Ends with status 0 and the line "passed forks".

set -eu

# same GOT WANT WHAT
same() {
	[[ $1 == "$2" ]] || {
		echo "$3: got '$1', wanted '$2'"
		exit 1
	}
}

# Command substitutions: 400 children, each with what its parent had.
declare -A squares
for i in {1..400}; do
	squares[$i]=$(echo $((i * i)))
done
sum=0
for i in "${!squares[@]}"; do
	same "${squares[$i]}" $((i * i)) "square of $i"
	sum=$((sum + squares[$i]))
done
same $sum 21413400 'sum of squares'

# Subshells: what they change stays in them.
kept=parent
for i in {1..400}; do
	(kept=child$i; [[ $kept == child$i ]]; exit $((i % 7))) && status=0 ||
		status=$?
	same $status $((i % 7)) "status of subshell $i"
done
same $kept parent 'the variable'

# Pipes of three processes, 100 of them.
for i in {1..100}; do
	same "$(for ((n = i; n > 0; n--)); do echo "$n"; done |
		while read -r n; do echo $((n % 10)); done | sort | uniq |
		wc -l)" $((i < 10 ? i : 10)) "pipe $i"
done

# Nested substitutions.
deep() {
	if (($1 == 0)); then
		echo bottom
	else
		echo "$1 $(deep $(($1 - 1)))"
	fi
}
same "$(deep 30)" "$(printf '%s ' {30..1})bottom" 'thirty deep'

# Background children, and a large variable passed through a pipe.
pids=()
for i in {1..100}; do
	(exit $((i % 5))) &
	pids+=($!)
done
bad=0
for i in "${!pids[@]}"; do
	wait "${pids[$i]}" && status=0 || status=$?
	((status == (i + 1) % 5)) || bad=$((bad + 1))
done
same $bad 0 'statuses of background children'
large=$(printf 'line %d\n' {1..50000})
same "$(wc -l <<<"$large")" 50000 'lines by a here-document'
same "$(echo "$large" | sort -t ' ' -k 2n | tail -n 1)" 'line 50000' 'last line'
read -r first < <(echo "$large")
same "$first" 'line 1' 'process substitution'

# Arrays and strings of a shell that has forked so often.
words=($large)
same ${#words[@]} 100000 'words'
same "${words[99999]}" 50000 'last word'
joined="${words[*]}"
same ${#joined} $((${#large})) 'joined'
echo 'passed forks'
