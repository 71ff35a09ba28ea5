// Apache commons-net: uploads, goes on with an upload, lists, renames, deletes and downloads.
// java -cp commons-net.jar CommonsNet.java MODE HOST PORT USER PASSWORD CERTIFICATE FILE

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import javax.net.ssl.TrustManagerFactory;
import org.apache.commons.net.ftp.FTP;
import org.apache.commons.net.ftp.FTPClient;
import org.apache.commons.net.ftp.FTPFile;
import org.apache.commons.net.ftp.FTPReply;
import org.apache.commons.net.ftp.FTPSClient;
import org.apache.commons.net.util.TrustManagerUtils;

public class CommonsNet {
    static FTPClient ftp;

    static void must(boolean done, String what) {
        if (!done) {
            throw new IllegalStateException(what + ": " + ftp.getReplyString());
        }
    }

    static FTPSClient secured(boolean isImplicit, String certificate) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (var from = Files.newInputStream(Path.of(certificate))) {
            trusted.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(from));
        }
        FTPSClient client = new FTPSClient(isImplicit);
        client.setTrustManager(TrustManagerUtils.getDefaultTrustManager(trusted));
        client.setEndpointCheckingEnabled(true);
        return client;
    }

    static void store(String name, byte[] bytes) throws IOException {
        must(ftp.storeFile(name, new ByteArrayInputStream(bytes)), name);
    }

    static byte[] fetch(String name, long from) throws IOException {
        var into = new ByteArrayOutputStream();
        ftp.setRestartOffset(from);
        must(ftp.retrieveFile(name, into), "retrieve");
        return into.toByteArray();
    }

    public static void main(String[] given) throws Exception {
        String mode = given[0];
        byte[] content = Files.readAllBytes(Path.of(given[6]));
        ftp = mode.equals("plain") ? new FTPClient() : secured(mode.equals("implicit"), given[5]);
        ftp.setConnectTimeout(30_000);
        ftp.setDefaultTimeout(30_000);
        ftp.connect(given[1], Integer.parseInt(given[2]));
        must(FTPReply.isPositiveCompletion(ftp.getReplyCode()), "connect");
        must(ftp.login(given[3], given[4]), "login");
        if (ftp instanceof FTPSClient) {
            ((FTPSClient) ftp).execPBSZ(0);
            ((FTPSClient) ftp).execPROT("P");
        }
        ftp.enterLocalPassiveMode();
        must(ftp.setFileType(FTP.BINARY_FILE_TYPE), "type");
        must(ftp.changeWorkingDirectory(mode), "cwd");
        must(ftp.hasFeature("MLST"), "features");

        store("whole.bin", content);
        must(ftp.getReplyString().startsWith("226 Received "), "the reply to an upload");
        must(ftp.getSize("whole.bin").equals(Integer.toString(content.length)), "size");
        store("small.hl7", Arrays.copyOf(content, 1000));
        store("named.part", content);
        must(ftp.rename("named.part", "named.bin"), "rename");

        // What a client before us has begun.
        int kept = Integer.parseInt(ftp.getSize("cut.bin"));
        must(kept > 0 && kept < content.length, "a partial");
        must(ftp.appendFile("cut.bin", new ByteArrayInputStream(content, kept, content.length - kept)), "append");
        must(ftp.mlistFile("cut.bin").getSize() == content.length, "size of the whole");

        store("twice.hl7", Arrays.copyOf(content, 2000));
        store("twice.hl7", Arrays.copyOf(content, 3000));
        store("gone.hl7", Arrays.copyOf(content, 4000));
        must(ftp.deleteFile("gone.hl7"), "delete");
        must(!ftp.deleteFile("gone.hl7") && ftp.getReplyCode() == 550, "it is gone");
        must(ftp.makeDirectory("sub") && ftp.removeDirectory("sub"), "directory");
        must(ftp.setModificationTime("small.hl7", "20200102030405"), "mfmt");
        must(ftp.getModificationTime("small.hl7").contains("20200102030405"), "mdtm");

        String[] names = ftp.listNames();
        Arrays.sort(names);
        String[] expected = {"cut.bin", "named.bin", "small.hl7", "twice.hl7", "whole.bin"};
        must(Arrays.equals(names, expected), Arrays.toString(names));
        FTPFile[] files = ftp.listFiles();
        must(files.length == expected.length, "list");
        for (FTPFile file : files) {
            must(!file.getName().equals("twice.hl7") || file.getSize() == 3000, "the newer one");
        }
        must(ftp.mlistDir().length == expected.length, "mlsd");

        must(Arrays.equals(fetch("whole.bin", 0), content), "what came back");
        must(Arrays.equals(fetch("whole.bin", 1000), Arrays.copyOfRange(content, 1000, content.length)), "the rest");
        must(!ftp.retrieveFile("none.bin", new ByteArrayOutputStream()) && ftp.getReplyCode() == 550, "no such file");
        must(ftp.logout(), "quit");
        ftp.disconnect();
        String[] where = FTPClient.class.getProtectionDomain().getCodeSource().getLocation().getPath().split("/");
        System.out.println(where[where.length - 1] + ", Java " + System.getProperty("java.version"));
    }
}
