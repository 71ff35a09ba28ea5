"""Uploads one file that never ends, and says so once bytes flow: a client to be killed.

endless_upload.py HOST PORT USER PASSWORD plain|tls
"""

import ftplib, os, ssl, sys, time

host, port, user, password, how = sys.argv[1:]
if how == "tls":
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    ftp = ftplib.FTP_TLS(context=context)
else:
    ftp = ftplib.FTP()
ftp.connect(host, int(port))
ftp.login(user, password)
if how == "tls":
    ftp.prot_p()
ftp.voidcmd("TYPE I")
data = ftp.transfercmd(f"STOR {os.getpid()}.hl7")
data.sendall(b"\7" * 10_000)
print("sending", flush=True)
while True:
    data.sendall(b"\7" * 10_000)
    time.sleep(0.0002)
