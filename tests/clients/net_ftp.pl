# Perl's Net::FTP: uploads, goes on with an upload, lists, renames and downloads.
# net_ftp.pl MODE HOST PORT USER PASSWORD CERTIFICATE FILE
use strict;
use warnings;
use Net::FTP;

my ($mode, $host, $port, $user, $password, $certificate, $path) = @ARGV;
my @tls = $mode eq 'plain' ? () : (SSL_ca_file => $certificate);
my $ftp = Net::FTP->new($host, Port => $port, Passive => 1, Timeout => 30, SSL => $mode eq 'implicit' ? 1 : 0, @tls)
    or die "connect: $@";
if ($mode eq 'explicit') {
    $ftp->starttls() or die 'starttls: ', $ftp->message;
}
sub must { my ($done, $what) = @_; die "$what: ", $ftp->code, ' ', $ftp->message unless $done; return $done }

must($ftp->login($user, $password), 'login');
must($ftp->binary, 'binary');
must($ftp->cwd($mode), 'cwd');
must($ftp->put($path, 'whole.bin'), 'put');
must($ftp->size('whole.bin') == -s $path, 'size');
must($ftp->put($path, 'named.part'), 'put');
must($ftp->rename('named.part', 'named.bin'), 'rename');

my $kept = $ftp->size('cut.bin');
must($kept > 0 && $kept < -s $path, 'a partial');
open(my $file, '<:raw', $path) or die $!;
seek($file, $kept, 0);
$ftp->restart($kept);
must($ftp->put($file, 'cut.bin'), 'put of the rest');
must($ftp->size('cut.bin') == -s $path, 'size of the whole');

must($ftp->get('whole.bin', "$path.back"), 'get');
my @names = sort $ftp->ls;
must("@names" eq 'cut.bin named.bin whole.bin', "ls: @names");
must($ftp->quit, 'quit');
print "Net::FTP $Net::FTP::VERSION\n";
