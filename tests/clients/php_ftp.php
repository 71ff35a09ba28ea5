<?php
// PHP's ftp extension: uploads, goes on with an upload, lists, renames, deletes and downloads.
// php_ftp.php MODE HOST PORT USER PASSWORD CERTIFICATE FILE
[, $mode, $host, $port, $user, $password, , $path] = $argv;
set_error_handler(function ($kind, $text) { throw new ErrorException($text); });

function must($done, string $what)
{
    if (!$done) {
        throw new Exception($what);
    }
    return $done;
}

function refused(callable $asked): void
{
    try {
        $answer = $asked();
    } catch (ErrorException $error) {
        return;
    }
    must($answer === false || $answer === -1, 'was not refused');
}

/** Uploads bytes that are in no file. */
function put_bytes($ftp, string $name, string $bytes): void
{
    $from = fopen('php://memory', 'w+');
    fwrite($from, $bytes);
    rewind($from);
    must(ftp_fput($ftp, $name, $from, FTP_BINARY), $name);
}

$content = file_get_contents($path);
$ftp = must($mode === 'plain' ? ftp_connect($host, (int) $port, 30) : ftp_ssl_connect($host, (int) $port, 30), 'connect');
must(ftp_login($ftp, $user, $password), 'login');
must(ftp_pasv($ftp, true), 'pasv');
must(ftp_chdir($ftp, $mode), 'chdir');
must(ftp_pwd($ftp) === "/$mode", 'pwd');

must(ftp_put($ftp, 'whole.bin', $path, FTP_BINARY), 'put');
must(ftp_size($ftp, 'whole.bin') === strlen($content), 'size');
must(abs(ftp_mdtm($ftp, 'whole.bin') - time()) < 300, 'mdtm');
put_bytes($ftp, 'small.hl7', substr($content, 0, 1000));
must(ftp_put($ftp, 'named.part', $path, FTP_BINARY), 'put under a temporary name');
must(ftp_rename($ftp, 'named.part', 'named.bin'), 'rename');

// What a client before us has begun.
$kept = ftp_size($ftp, 'cut.bin');
must($kept > 0 && $kept < strlen($content), "a partial: $kept");
must(ftp_put($ftp, 'cut.bin', $path, FTP_BINARY, FTP_AUTORESUME), 'put of the rest');
must(ftp_size($ftp, 'cut.bin') === strlen($content), 'size of the whole');

put_bytes($ftp, 'twice.hl7', substr($content, 0, 2000));
put_bytes($ftp, 'twice.hl7', substr($content, 0, 3000));
must(ftp_size($ftp, 'twice.hl7') === 3000, 'the newer one');
put_bytes($ftp, 'gone.hl7', substr($content, 0, 4000));
must(ftp_delete($ftp, 'gone.hl7'), 'delete');
must(ftp_size($ftp, 'gone.hl7') === -1, 'it is gone');
refused(fn () => ftp_delete($ftp, 'gone.hl7'));

must(ftp_mkdir($ftp, 'sub') === "/$mode/sub", 'mkdir');
must(ftp_rmdir($ftp, 'sub'), 'rmdir');
$names = ftp_nlist($ftp, '.');
sort($names);
$expected = ['cut.bin', 'named.bin', 'small.hl7', 'twice.hl7', 'whole.bin'];
must($names === $expected, 'nlist: ' . json_encode($names));
must(count(ftp_rawlist($ftp, '.')) === count($expected), 'rawlist');
$facts = array_column(ftp_mlsd($ftp, '.'), null, 'name');
must((int) $facts['small.hl7']['size'] === 1000, 'mlsd');

must(ftp_get($ftp, "$path.back", 'whole.bin', FTP_BINARY), 'get');
must(file_get_contents("$path.back") === $content, 'what came back');
file_put_contents("$path.back", substr($content, 0, 999));
must(ftp_get($ftp, "$path.back", 'whole.bin', FTP_BINARY, FTP_AUTORESUME), 'get of the rest');
must(file_get_contents("$path.back") === $content, 'what came back in two parts');
refused(fn () => ftp_get($ftp, "$path.none", 'none.bin', FTP_BINARY));
must(ftp_close($ftp), 'close');
echo 'PHP ', PHP_VERSION, ' ftp, ', OPENSSL_VERSION_TEXT, "\n";
