<?php
// PHP's ssh2 extension: uploads, goes on with an upload, lists, renames, deletes and downloads.
// php_ssh2.php HOST PORT USER PASSWORD FILE
[, $host, $port, $user, $password, $path] = $argv;
set_error_handler(function ($kind, $text) { throw new ErrorException($text); });

function must($done, string $what)
{
    if (!$done) {
        throw new Exception($what);
    }
    return $done;
}

$content = file_get_contents($path);
$session = must(ssh2_connect($host, (int) $port), 'connect');
must(ssh2_auth_password($session, $user, $password), 'login');
$sftp = must(ssh2_sftp($session), 'sftp');
$at = fn (string $name) => 'ssh2.sftp://' . intval($sftp) . "/in/$name";

function put(string $at, string $bytes, string $mode = 'w'): void
{
    $to = must(fopen($at, $mode), $at);
    for ($done = 0; $done < strlen($bytes); $done += $written) {
        $written = must(fwrite($to, substr($bytes, $done, 1 << 17)), 'write');
    }
    must(fclose($to), 'close');
}

put($at('whole.bin'), $content);
must(ssh2_sftp_stat($sftp, '/in/whole.bin')['size'] === strlen($content), 'stat');
put($at('small.hl7'), substr($content, 0, 1000));
put($at('named.part'), $content);
must(ssh2_sftp_rename($sftp, '/in/named.part', '/in/named.bin'), 'rename');

// What a client before us has begun.
$kept = ssh2_sftp_stat($sftp, '/in/cut.bin')['size'];
must($kept > 0 && $kept < strlen($content), "a partial: $kept");
put($at('cut.bin'), substr($content, $kept), 'a');
clearstatcache();
must(filesize($at('cut.bin')) === strlen($content), 'size of the whole');

put($at('twice.hl7'), substr($content, 0, 2000));
put($at('twice.hl7'), substr($content, 0, 3000));
put($at('gone.hl7'), substr($content, 0, 4000));
must(ssh2_sftp_unlink($sftp, '/in/gone.hl7'), 'unlink');
must(!file_exists($at('gone.hl7')), 'it is gone');
must(ssh2_sftp_mkdir($sftp, '/in/sub'), 'mkdir');
must(is_dir($at('sub')), 'a directory');
must(ssh2_sftp_rmdir($sftp, '/in/sub'), 'rmdir');
must(ssh2_sftp_realpath($sftp, '/in/..') === '/', 'realpath');

$names = array_values(array_diff(scandir($at('')), ['.', '..']));
sort($names);
must($names === ['cut.bin', 'named.bin', 'small.hl7', 'twice.hl7', 'whole.bin'], 'scandir: ' . json_encode($names));
must(file_get_contents($at('whole.bin')) === $content, 'what came back');
$from = fopen($at('whole.bin'), 'r');
fseek($from, 1000);
must(fread($from, 500) === substr($content, 1000, 500), 'what came back from a place');
fclose($from);
ssh2_disconnect($session);
echo 'PHP ', PHP_VERSION, ' ssh2 ', phpversion('ssh2'), "\n";
