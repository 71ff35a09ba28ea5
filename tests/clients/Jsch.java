// JSch: uploads, goes on with an upload, lists, renames, deletes and downloads.
// java -cp jsch.jar Jsch.java HOST PORT USER PASSWORD FILE

import com.jcraft.jsch.ChannelSftp;
import com.jcraft.jsch.JSch;
import com.jcraft.jsch.Session;
import com.jcraft.jsch.SftpException;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;

public class Jsch {
    static ChannelSftp sftp;

    static void must(boolean done, String what) {
        if (!done) {
            throw new IllegalStateException(what);
        }
    }

    static void put(String name, byte[] bytes) throws SftpException {
        sftp.put(new ByteArrayInputStream(bytes), name);
    }

    static byte[] get(String name, long from) throws SftpException {
        var into = new ByteArrayOutputStream();
        sftp.get(name, into, null, ChannelSftp.RESUME, from);
        return into.toByteArray();
    }

    public static void main(String[] given) throws Exception {
        String path = given[4];
        byte[] content = Files.readAllBytes(Path.of(path));
        Session session = new JSch().getSession(given[2], given[0], Integer.parseInt(given[1]));
        session.setPassword(given[3]);
        session.setConfig("StrictHostKeyChecking", "no");
        session.setTimeout(30_000);
        session.connect();
        sftp = (ChannelSftp) session.openChannel("sftp");
        sftp.connect();
        sftp.cd("in");
        must(sftp.pwd().equals("/in"), "pwd");

        sftp.put(path, "whole.bin");
        must(sftp.stat("whole.bin").getSize() == content.length, "size");
        put("small.hl7", Arrays.copyOf(content, 1000));
        sftp.put(path, "named.part");
        sftp.rename("named.part", "named.bin");

        // What a client before us has begun.
        long kept = sftp.stat("cut.bin").getSize();
        must(kept > 0 && kept < content.length, "a partial");
        sftp.put(path, "cut.bin", ChannelSftp.RESUME);
        must(sftp.lstat("cut.bin").getSize() == content.length, "size of the whole");

        put("twice.hl7", Arrays.copyOf(content, 2000));
        put("twice.hl7", Arrays.copyOf(content, 3000));
        must(sftp.stat("twice.hl7").getSize() == 3000, "the newer one");
        put("gone.hl7", Arrays.copyOf(content, 4000));
        sftp.rm("gone.hl7");
        try {
            sftp.rm("gone.hl7");
            must(false, "it was removed twice");
        } catch (SftpException refused) {
            must(refused.id == ChannelSftp.SSH_FX_NO_SUCH_FILE, "it is gone: " + refused.id);
        }
        sftp.mkdir("sub");
        must(sftp.stat("sub").isDir(), "a directory");
        sftp.rmdir("sub");
        sftp.setMtime("small.hl7", 1577934245);
        must(sftp.stat("small.hl7").getMTime() == 1577934245, "time");

        var names = new TreeSet<String>();
        for (Object entry : sftp.ls("*")) {
            names.add(((ChannelSftp.LsEntry) entry).getFilename());
        }
        var expected = List.of("cut.bin", "named.bin", "small.hl7", "twice.hl7", "whole.bin");
        must(names.equals(new TreeSet<>(expected)), names.toString());
        must(Arrays.equals(get("whole.bin", 0), content), "what came back");
        must(Arrays.equals(get("whole.bin", 1000), Arrays.copyOfRange(content, 1000, content.length)), "the rest");
        session.disconnect();
        System.out.println("JSch " + JSch.VERSION + ", Java " + System.getProperty("java.version"));
    }
}
