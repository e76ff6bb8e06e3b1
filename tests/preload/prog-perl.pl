# SPDX-License-Identifier: MIT
# Work for prog-perl.test: each name is one run of perl.
#
# usage: prog-perl.pl words | hashes | sort | strings | forks | limit | large
#
# A run ends with status 0 and "passed NAME".  "limit" and "large" are to die,
# by perl's own hand, after what they printed before.

use strict;
use warnings;

# Bounds of lists are in variables: perl builds constant lists as it compiles.

# A sequence that looks random and is the same everywhere.
my $seed = 12345;
sub number { $seed = ($seed * 1103515245 + 12345) % 2147483648 }

sub check {
	my ($name, $got, $want) = @_;
	die "$name: got '$got', wanted '$want'\n" if $got ne $want;
}

# Counts the words of a text of 300,000, in three ways.
sub words {
	my $many = 300_000;
	my @text = map { 'w' . (number() >> 12) % 5000 } 1 .. $many;
	my $text = join ' ', @text;
	my (%split, %regex, %chunk);
	$split{$_}++ for split ' ', $text;
	$regex{$1}++ while $text =~ /\b(w\d+)\b/g;
	$chunk{$_}++ for @text;
	check 'number of words', scalar(keys %split), 5000;
	for my $word (keys %split) {
		check "count of $word", $regex{$word}, $split{$word};
		check "count of $word", $chunk{$word}, $split{$word};
	}
	my $sum = 0;
	$sum += $_ for values %split;
	check 'sum', $sum, 300_000;
	(my $upper = $text) =~ s/w(\d+)/sprintf 'W%x', $1/ge;
	check 'replaced', ($upper =~ tr/W//), 300_000;
	check 'a word', (split ' ', $upper)[777],
		sprintf 'W%x', substr $text[777], 1;
}

# A hash of 400,000 keys that grows and shrinks, and a deep structure.
sub hashes {
	my ($many, $some) = (400_000, 100_000);
	my %table = map { ("key $_" => $_ * 3) } 1 .. $many;
	for my $round (1 .. 3) {
		delete $table{"key $_"} for grep { $_ % 2 } 1 .. $many;
		check 'half', scalar(keys %table), 200_000;
		check 'a key', $table{'key 2000'}, 6000;
		$table{"key $_"} = $_ * 3 for grep { $_ % 2 } 1 .. $many;
		check 'all', scalar(keys %table), 400_000;
	}
	my %deep;
	push @{$deep{$_ % 7}{$_ % 11}{list}}, { id => $_ } for 1 .. $some;
	my $sum = 0;
	for my $a (values %deep) {
		for my $b (values %$a) {
			$sum += $_->{id} for @{$b->{list}};
		}
	}
	check 'sum of the deep', $sum, 100_000 * 100_001 / 2;
}

sub sorted {
	my $many = 300_000;
	my @numbers = map { number() } 1 .. $many;
	my @up = sort { $a <=> $b } @numbers;
	my @down = reverse sort { $a <=> $b } @numbers;
	my @text = sort map { sprintf '%010d', $_ } @numbers;
	for my $i (0 .. $#up) {
		die "order at $i\n" if $i && $up[$i - 1] > $up[$i];
		die "reverse at $i\n" if $down[-1 - $i] != $up[$i];
		die "text at $i\n" if $text[$i] != $up[$i];
	}
}

# Strings that grow by little and by much, and shrink.
sub strings {
	my ($length, $pieces, $numbers) = (3_000_000, 20_000, 499_999);
	my $long = '';
	$long .= chr 97 + $_ % 26 for 0 .. $length;
	check 'length', length $long, 3_000_001;
	check 'its middle', substr($long, 26 * 50_000, 26), join '', 'a' .. 'z';
	my @many = map { substr $long, $_ % 1000, $_ % 5000 } 1 .. $pieces;
	check 'a piece', $many[4998], substr($long, 999, 4999);
	$#many = 100;
	my $twice = $long x 10;
	check 'ten times', length $twice, 30_000_010;
	check 'letters', ($twice =~ tr/a//), 10 * (($long =~ tr/a//));
	my $packed = pack 'N*', 0 .. $numbers;
	my @back = unpack 'N*', $packed;
	check 'unpacked', $back[-1], 499_999;
	open my $file, '>', \my $memory or die;
	print $file "line $_\n" for 1 .. $pieces * 10;
	close $file;
	check 'lines in memory', ($memory =~ tr/\n//), 200_000;
}

# Children by fork, some that fork themselves; all answer through pipes.
sub forks {
	my $some = 2000;
	for my $n (1 .. 200) {
		my $pid = open(my $pipe, '-|') // die "fork: $!\n";
		if (!$pid) {
			my @own = map { $_ * $n } 1 .. $some;
			print $own[-1], "\n";
			exit 0;
		}
		chomp(my $answer = <$pipe>);
		close $pipe;
		check "child $n", $answer, 2000 * $n;
	}
}

# Keeps strings until there is no memory.
sub limit {
	$| = 1;
	print "started\n";
	my @keep;
	for my $n (1 .. 3_000_000) {
		push @keep, "number $n " . 'x' x 200;
		print "at $n\n" if $n % 10_000 == 0;
	}
	print "never full\n";
}

# One string that doubles until there is no memory.
sub large {
	my $many = 100_000;
	$| = 1;
	print "started\n";
	my %before = map { ($_ => "value $_") } 1 .. $many;
	my $string = 'x' x 1_000_000;
	$string .= $string for 1 .. 12;
	print "never full\n";
}

my %work = (words => \&words, hashes => \&hashes, sort => \&sorted,
	strings => \&strings, forks => \&forks, limit => \&limit,
	large => \&large);
$work{$ARGV[0]}->();
print "passed $ARGV[0]\n";
