-- Schema 0010, made by tests/goldens/releases/make.py; not to be changed.
BEGIN TRANSACTION;
CREATE TABLE attempt (
	trial INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker VARCHAR(128) NOT NULL, 
	resumed INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	ending VARCHAR(16), 
	step INTEGER, 
	detail TEXT, 
	log_bytes INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (trial, attempt), 
	CONSTRAINT ck_attempt_ending CHECK (ending IN ('complete', 'pruned', 'failed', 'cancelled', 'released', 'lost', 'crashed')), 
	CONSTRAINT ck_attempt_ending_has_time CHECK ((ending IS NULL) = (ended_at IS NULL)), 
	FOREIGN KEY(trial) REFERENCES trial (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "attempt" VALUES(1,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(2,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(3,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(4,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(5,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(6,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(7,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(8,1,'box-22129-a68b68',0,1.79594240929630684852e+09,1.79594242560298824303e+09,'complete',3,NULL,1371);
INSERT INTO "attempt" VALUES(9,1,'box-22129-a68b68',0,1.79594242586233973505e+09,1.79594242884284853931e+09,'complete',3,NULL,1270);
INSERT INTO "attempt" VALUES(10,1,'box-22129-a68b68',0,1.79594242586233973505e+09,1.79594242884284853931e+09,'complete',3,NULL,1270);
INSERT INTO "attempt" VALUES(11,1,'box-22129-a68b68',0,1.79594242887922143935e+09,1795942428.95622,'complete',3,NULL,1159);
INSERT INTO "attempt" VALUES(12,1,'box-22129-a68b68',0,1.79594242887922143935e+09,1795942428.95622,'complete',3,NULL,1159);
INSERT INTO "attempt" VALUES(13,1,'box-22129-a68b68',0,1795942430.09208,1.79594243096373128894e+09,'complete',3,NULL,683);
INSERT INTO "attempt" VALUES(14,1,'box-22129-a68b68',0,1.79594243102425622947e+09,1.79594243153421473501e+09,'failed',1,'the training loss was nan in batch 3 of epoch 2, at a learning rate of 100',620);
INSERT INTO "attempt" VALUES(15,1,'box-22129-a68b68',0,1.79594243157087373732e+09,1.79594243256444382672e+09,'complete',3,NULL,689);
INSERT INTO "attempt" VALUES(16,1,'box-22129-a68b68',0,1.79594243264798545832e+09,1.79594243321441030501e+09,'pruned',2,'The best accuracy up to step 2 is 0.666667, below the median of 2 complete trials at that step: 0.833333.',690);
INSERT INTO "attempt" VALUES(18,1,'box-22129-a68b68',0,1.79594243328042793266e+09,1.79594243383916711805e+09,'complete',3,NULL,689);
INSERT INTO "attempt" VALUES(19,1,'box-22129-a68b68',0,1.79594243385668087009e+09,1795942433.99088,'pruned',1,'The best accuracy up to step 1 is 0.333333, below the median of 3 complete trials at that step: 0.666667.',488);
INSERT INTO "attempt" VALUES(20,1,'box-22129-a68b68',0,1.79594243403152060509e+09,1.79594243421017289163e+09,'pruned',1,'The best accuracy up to step 1 is 0.388889, below the median of 3 complete trials at that step: 0.666667.',568);
INSERT INTO "attempt" VALUES(21,1,'box-22129-a68b68',0,1.7959424344889068604e+09,1.79594243490211749074e+09,'complete',3,NULL,695);
INSERT INTO "attempt" VALUES(22,1,'box-22129-a68b68',0,1.79594243499097943302e+09,1.79594243506733751295e+09,'cancelled',0,NULL,0);
INSERT INTO "attempt" VALUES(23,1,'box-22129-a68b68',0,1.79594243587140059469e+09,NULL,NULL,NULL,NULL,1175);
CREATE TABLE database_identity (
	one INTEGER NOT NULL, 
	id VARCHAR(32) NOT NULL, 
	PRIMARY KEY (one), 
	CONSTRAINT ck_database_identity_single CHECK (one = 1)
);
INSERT INTO "database_identity" VALUES(1,'0ee7260c0e96ac771e757431782060c3');
CREATE TABLE event (
	study_id VARCHAR(16) NOT NULL, 
	seq BIGINT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	body JSON NOT NULL, 
	at DOUBLE NOT NULL, 
	PRIMARY KEY (study_id, seq), 
	FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "event" VALUES('32f66e01ecd8b41c',1,'study_created','{"state":"active","name":"stopped"}',1.79594243436038708688e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',2,'study_checked','{"state":"active","classes":3,"images":{"train":30,"validation":18,"test":12}}',1.79594243444347453119e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',3,'trial_started','{"number":0,"state":"running","attempt":1,"params":{"lr":0.004043878009515107,"optimizer":"sgd","momentum":0.3477946309224197},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.7959424344889068604e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',4,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":1}',1.79594243490211749074e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',5,'trial_reported','{"number":0,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.6111111111111112,"precision":0.8205128205128206,"recall":0.611111111111111,"f1":0.5724310776942355,"loss":0.9210602442423502,"train_loss":0.9595590750376384,"lr":0.004043878009515107},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":0.9994533326890733,"train_loss":1.0296751181284587,"lr":0.004043878009515107}},{"step":2,"metrics":{"accuracy":0.5555555555555556,"precision":0.4761904761904762,"recall":0.5555555555555555,"f1":0.4666666666666666,"loss":0.9540360768636068,"train_loss":1.029303991794586,"lr":0.004043878009515107}},{"step":3,"metrics":{"accuracy":0.6111111111111112,"precision":0.8205128205128206,"recall":0.611111111111111,"f1":0.5724310776942355,"loss":0.9210602442423502,"train_loss":0.9595590750376384,"lr":0.004043878009515107}}],"pace":{"samples_per_second":371.8280280521124,"seconds_left":0.0,"memory":855252992,"utilization":0.750077230523096,"seconds":{"data":0.04765318499812565,"features":0.0,"forward":0.08823531300186005,"backward":0.15584314399984578,"measure":0.0654400399998849,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243490211749074e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',6,'trial_completed','{"number":0,"state":"complete","attempt":1,"value":0.6111111111111112,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594243490211749074e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',7,'trial_started','{"number":1,"state":"running","attempt":1,"params":{"lr":0.08311303692128176,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594243499097943302e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',8,'trial_cancelled','{"number":1,"state":"cancelled","attempt":1,"value":null,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594243506733751295e+09);
INSERT INTO "event" VALUES('32f66e01ecd8b41c',9,'study_stopped','{"state":"stopped","reason":null}',1.79594243506733751295e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',1,'study_created','{"state":"active","name":"under-way"}',1.7959424354803111553e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',2,'trial_queued','{"number":0,"state":"queued","attempt":0,"params":{"lr":0.001,"optimizer":"adam"},"source":"user"}',1.79594243554205822946e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',3,'study_checked','{"state":"active","classes":3,"images":{"train":30,"validation":18,"test":12}}',1.79594243575694394112e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',4,'trial_started','{"number":0,"state":"running","attempt":1,"params":{"lr":0.001,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"user","step":0}',1.79594243587140059469e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',5,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":1}',1.79594243863471436498e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',6,'trial_reported','{"number":0,"state":"running","attempt":1,"step":0,"metrics":{},"reports":[]}',1.79594243863471436498e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',7,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":2}',1.79594245476643013951e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',8,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":3}',1.79594245926796650886e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',9,'trial_reported','{"number":0,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.7222222222222222,"precision":0.8055555555555555,"recall":0.7222222222222223,"f1":0.6476190476190476,"loss":0.7600730790032281,"train_loss":0.9667184511820476,"lr":0.001},"reports":[{"step":1,"metrics":{"accuracy":0.7222222222222222,"precision":0.8055555555555555,"recall":0.7222222222222223,"f1":0.6476190476190476,"loss":0.7600730790032281,"train_loss":0.9667184511820476,"lr":0.001}}],"pace":{"samples_per_second":2.2047947814984084,"seconds_left":106369.29918453877,"memory":1187717120,"utilization":0.7436151154748777,"seconds":{"data":0.12396014199930505,"features":5.810364400001163,"forward":5.563084319001064,"backward":7.946990966999692,"measure":3.4002014970001255,"waiting":0.0,"control":0.067},"saved_seconds":-3.715541537990248}}',1.79594245926796650886e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',10,'trial_saved','{"number":0,"state":"running","attempt":1,"step":1,"size":576123}',1.79594245926796650886e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',11,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":4}',1.79594247621568298342e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',12,'trial_reported','{"number":0,"state":"running","attempt":1,"step":2,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.5621954600016276,"train_loss":0.7782894174257914,"lr":0.001},"reports":[{"step":2,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.5621954600016276,"train_loss":0.7782894174257914,"lr":0.001}}],"pace":{"samples_per_second":2.255150470561649,"seconds_left":84637.66375705475,"memory":1187934208,"utilization":0.8623040443191519,"seconds":{"data":0.2333846759984226,"features":5.810364400001163,"forward":11.33331157700104,"backward":15.366807403999701,"measure":7.0295855719996325,"waiting":0.0,"control":0.107},"saved_seconds":-3.1068791319803495}}',1.79594247621568298342e+09);
INSERT INTO "event" VALUES('527b768a5704dd89',13,'trial_saved','{"number":0,"state":"running","attempt":1,"step":2,"size":576123}',1.79594247621568298342e+09);
INSERT INTO "event" VALUES('afd3ce38f3bea564',1,'study_created','{"state":"active","name":"paused"}',1.79594243529463553428e+09);
INSERT INTO "event" VALUES('afd3ce38f3bea564',2,'study_paused','{"state":"paused"}',1.79594243533900308614e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',1,'study_created','{"state":"active","name":"heads"}',1.7959423919099636078e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',2,'trial_queued','{"number":0,"state":"queued","attempt":0,"params":{"lr":0.0001,"optimizer":"adam"},"source":"baseline"}',1.7959423919099636078e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',3,'study_checked','{"state":"active","classes":3,"images":{"train":30,"validation":18,"test":12}}',1.79594240922557115552e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',4,'trial_started','{"number":0,"state":"running","attempt":1,"params":{"lr":0.0001,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"baseline","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',5,'trial_started','{"number":1,"state":"running","attempt":1,"params":{"lr":0.08311303692128176,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',6,'trial_started','{"number":2,"state":"running","attempt":1,"params":{"lr":0.004897135316634731,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',7,'trial_started','{"number":3,"state":"running","attempt":1,"params":{"lr":0.002738548776139996,"optimizer":"sgd","momentum":0.5560957668219918},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',8,'trial_started','{"number":4,"state":"running","attempt":1,"params":{"lr":0.002618338553065556,"optimizer":"sgd","momentum":0.45459417298987564},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',9,'trial_started','{"number":5,"state":"running","attempt":1,"params":{"lr":0.0019042071927315826,"optimizer":"sgd","momentum":0.07919113315684596},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',10,'trial_started','{"number":6,"state":"running","attempt":1,"params":{"lr":0.0038568262770828773,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',11,'trial_started','{"number":7,"state":"running","attempt":1,"params":{"lr":0.00014016907816835644,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594240929630684852e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',12,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',13,'trial_reported','{"number":0,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.5555555555555556,"precision":0.5,"recall":0.5555555555555555,"f1":0.48888888888888893,"loss":1.044264793395996,"train_loss":1.048810625076294,"lr":0.0001},"reports":[{"step":1,"metrics":{"accuracy":0.5,"precision":0.5,"recall":0.5,"f1":0.4444444444444444,"loss":1.0473806593153212,"train_loss":1.0531903902689617,"lr":0.0001}},{"step":2,"metrics":{"accuracy":0.4444444444444444,"precision":0.5,"recall":0.4444444444444444,"f1":0.38888888888888884,"loss":1.0458381440904405,"train_loss":1.0506706913312276,"lr":0.0001}},{"step":3,"metrics":{"accuracy":0.5555555555555556,"precision":0.5,"recall":0.5555555555555555,"f1":0.48888888888888893,"loss":1.044264793395996,"train_loss":1.048810625076294,"lr":0.0001}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',14,'trial_completed','{"number":0,"state":"complete","attempt":1,"value":0.5555555555555556,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',15,'trial_logged','{"number":1,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',16,'trial_reported','{"number":1,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.8455170525444878,"train_loss":0.6673428098360698,"lr":0.08311303692128176},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.373898400200738,"train_loss":2.90864683787028,"lr":0.08311303692128176}},{"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.9193866517808702,"train_loss":1.5328117410341902,"lr":0.08311303692128176}},{"step":3,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.8455170525444878,"train_loss":0.6673428098360698,"lr":0.08311303692128176}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',17,'trial_completed','{"number":1,"state":"complete","attempt":1,"value":0.6666666666666666,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',18,'trial_logged','{"number":2,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',19,'trial_reported','{"number":2,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":0.9757242202758789,"train_loss":1.0116877555847166,"lr":0.004897135316634731},"reports":[{"step":1,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":1.0115943484836154,"train_loss":1.1324120442072552,"lr":0.004897135316634731}},{"step":2,"metrics":{"accuracy":0.6111111111111112,"precision":0.4871794871794872,"recall":0.6111111111111112,"f1":0.5135566188197767,"loss":1.0037493175930448,"train_loss":1.04016748269399,"lr":0.004897135316634731}},{"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":0.9757242202758789,"train_loss":1.0116877555847166,"lr":0.004897135316634731}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',20,'trial_completed','{"number":2,"state":"complete","attempt":1,"value":0.3333333333333333,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',21,'trial_logged','{"number":3,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',22,'trial_reported','{"number":3,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.16666666666666666,"recall":0.3333333333333333,"f1":0.2222222222222222,"loss":1.077188597785102,"train_loss":1.0937113602956137,"lr":0.002738548776139996},"reports":[{"step":1,"metrics":{"accuracy":0.3888888888888889,"precision":0.3333333333333333,"recall":0.3888888888888889,"f1":0.30687830687830686,"loss":1.136370340983073,"train_loss":1.1872044722239177,"lr":0.002738548776139996}},{"step":2,"metrics":{"accuracy":0.4444444444444444,"precision":0.36904761904761907,"recall":0.4444444444444445,"f1":0.3666666666666667,"loss":1.1022067599826388,"train_loss":1.1363946596781414,"lr":0.002738548776139996}},{"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.16666666666666666,"recall":0.3333333333333333,"f1":0.2222222222222222,"loss":1.077188597785102,"train_loss":1.0937113602956137,"lr":0.002738548776139996}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',23,'trial_completed','{"number":3,"state":"complete","attempt":1,"value":0.3333333333333333,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',24,'trial_logged','{"number":4,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',25,'trial_reported','{"number":4,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.9858276579115126,"train_loss":1.0059279481569927,"lr":0.002618338553065556},"reports":[{"step":1,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":1.0420267317030165,"train_loss":1.0864633003870645,"lr":0.002618338553065556}},{"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":1.0040532218085394,"train_loss":1.0494307319323222,"lr":0.002618338553065556}},{"step":3,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.9858276579115126,"train_loss":1.0059279481569927,"lr":0.002618338553065556}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',26,'trial_completed','{"number":4,"state":"complete","attempt":1,"value":0.6666666666666666,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',27,'trial_logged','{"number":5,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',28,'trial_reported','{"number":5,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.16666666666666666,"recall":0.3333333333333333,"f1":0.2222222222222222,"loss":1.0920976003011067,"train_loss":1.1002229452133179,"lr":0.0019042071927315826},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.1202023824055989,"train_loss":1.134716526667277,"lr":0.0019042071927315826}},{"step":2,"metrics":{"accuracy":0.3333333333333333,"precision":0.125,"recall":0.3333333333333333,"f1":0.1818181818181818,"loss":1.1046307881673176,"train_loss":1.121509607632955,"lr":0.0019042071927315826}},{"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.16666666666666666,"recall":0.3333333333333333,"f1":0.2222222222222222,"loss":1.0920976003011067,"train_loss":1.1002229452133179,"lr":0.0019042071927315826}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',29,'trial_completed','{"number":5,"state":"complete","attempt":1,"value":0.3333333333333333,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',30,'trial_logged','{"number":6,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',31,'trial_reported','{"number":6,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.6111111111111112,"precision":0.4871794871794872,"recall":0.6111111111111112,"f1":0.5135566188197767,"loss":0.9685512118869357,"train_loss":0.994798227151235,"lr":0.0038568262770828773},"reports":[{"step":1,"metrics":{"accuracy":0.3888888888888889,"precision":0.2294372294372294,"recall":0.3888888888888889,"f1":0.28657616892911014,"loss":1.0398169623480902,"train_loss":1.1789323488871257,"lr":0.0038568262770828773}},{"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.4675324675324675,"recall":0.6666666666666666,"f1":0.5429864253393665,"loss":0.9976926379733615,"train_loss":1.0309500296910605,"lr":0.0038568262770828773}},{"step":3,"metrics":{"accuracy":0.6111111111111112,"precision":0.4871794871794872,"recall":0.6111111111111112,"f1":0.5135566188197767,"loss":0.9685512118869357,"train_loss":0.994798227151235,"lr":0.0038568262770828773}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',32,'trial_completed','{"number":6,"state":"complete","attempt":1,"value":0.6111111111111112,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',33,'trial_logged','{"number":7,"state":"running","attempt":1,"chunk":1}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',34,'trial_reported','{"number":7,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.3888888888888889,"precision":0.45098039215686275,"recall":0.3888888888888889,"f1":0.2691511387163561,"loss":1.0292445288764105,"train_loss":1.032414118448893,"lr":0.00014016907816835644},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.0325270758734808,"train_loss":1.0371110995610553,"lr":0.00014016907816835644}},{"step":2,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.0309953689575195,"train_loss":1.0342033783594766,"lr":0.00014016907816835644}},{"step":3,"metrics":{"accuracy":0.3888888888888889,"precision":0.45098039215686275,"recall":0.3888888888888889,"f1":0.2691511387163561,"loss":1.0292445288764105,"train_loss":1.032414118448893,"lr":0.00014016907816835644}}],"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052}}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',35,'trial_completed','{"number":7,"state":"complete","attempt":1,"value":0.3888888888888889,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242560298824303e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',36,'study_confirming','{"state":"active","arms":[1,0],"baseline":0}',1.79594242567272424702e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',37,'trial_queued','{"number":8,"state":"queued","attempt":0,"params":{"lr":0.08311303692128176,"optimizer":"adam"},"source":"confirmation","confirms":1,"round":1}',1.79594242567272424702e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',38,'trial_queued','{"number":9,"state":"queued","attempt":0,"params":{"lr":0.0001,"optimizer":"adam"},"source":"confirmation","confirms":0,"round":1}',1.79594242567272424702e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',39,'trial_queued','{"number":10,"state":"queued","attempt":0,"params":{"lr":0.08311303692128176,"optimizer":"adam"},"source":"confirmation","confirms":1,"round":2}',1.79594242567272424702e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',40,'trial_queued','{"number":11,"state":"queued","attempt":0,"params":{"lr":0.0001,"optimizer":"adam"},"source":"confirmation","confirms":0,"round":2}',1.79594242567272424702e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',41,'trial_started','{"number":8,"state":"running","attempt":1,"params":{"lr":0.08311303692128176,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"confirmation","step":0}',1.79594242586233973505e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',42,'trial_started','{"number":9,"state":"running","attempt":1,"params":{"lr":0.0001,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"confirmation","step":0}',1.79594242586233973505e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',43,'trial_reported','{"number":8,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.8888888888888888,"precision":0.9166666666666666,"recall":0.8888888888888888,"f1":0.8857142857142857,"loss":0.37536025047302246,"train_loss":0.7012700041135151,"lr":0.08311303692128176},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.2108929951985676,"train_loss":1.9770447889963783,"lr":0.08311303692128176}},{"step":2,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.534079392751058,"train_loss":1.2323611776034036,"lr":0.08311303692128176}},{"step":3,"metrics":{"accuracy":0.8888888888888888,"precision":0.9166666666666666,"recall":0.8888888888888888,"f1":0.8857142857142857,"loss":0.37536025047302246,"train_loss":0.7012700041135151,"lr":0.08311303692128176}}],"pace":{"samples_per_second":9002.580139824075,"seconds_left":0.0,"memory":792186880,"utilization":0.7893604993050305,"seconds":{"data":0.05180760400071449,"features":0.013525592999940272,"forward":0.006087554001169337,"backward":0.0020014519986943924,"measure":0.014737024000169185,"waiting":0.0,"control":0.0},"saved_seconds":33.15057342503496}}',1.79594242645607352253e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',44,'trial_reported','{"number":9,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.2919830746120877,"train_loss":1.2943151791890464,"lr":0.0001},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.3053916295369465,"train_loss":1.3087311506271362,"lr":0.0001}},{"step":2,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.2981960508558485,"train_loss":1.3016322016716004,"lr":0.0001}},{"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.2919830746120877,"train_loss":1.2943151791890464,"lr":0.0001}}],"pace":{"samples_per_second":9002.580139824075,"seconds_left":0.0,"memory":792186880,"utilization":0.7893604993050305,"seconds":{"data":0.05180760400071449,"features":0.013525592999940272,"forward":0.006087554001169337,"backward":0.0020014519986943924,"measure":0.014737024000169185,"waiting":0.0,"control":0.0},"saved_seconds":33.15057342503496}}',1.79594242645607352253e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',45,'trial_logged','{"number":8,"state":"running","attempt":1,"chunk":1}',1.79594242884284853931e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',46,'trial_completed','{"number":8,"state":"complete","attempt":1,"value":0.8888888888888888,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242884284853931e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',47,'trial_logged','{"number":9,"state":"running","attempt":1,"chunk":1}',1.79594242884284853931e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',48,'trial_completed','{"number":9,"state":"complete","attempt":1,"value":0.3333333333333333,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594242884284853931e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',49,'trial_started','{"number":10,"state":"running","attempt":1,"params":{"lr":0.08311303692128176,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"confirmation","step":0}',1.79594242887922143935e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',50,'trial_started','{"number":11,"state":"running","attempt":1,"params":{"lr":0.0001,"optimizer":"adam"},"worker":"box-22129-a68b68","source":"confirmation","step":0}',1.79594242887922143935e+09);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',51,'trial_logged','{"number":10,"state":"running","attempt":1,"chunk":1}',1795942428.95622);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',52,'trial_reported','{"number":10,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.7222222222222222,"precision":0.8055555555555555,"recall":0.7222222222222223,"f1":0.6476190476190476,"loss":0.5263397958543565,"train_loss":1.7152583519617717,"lr":0.08311303692128176},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.848894755045573,"train_loss":2.975891908009847,"lr":0.08311303692128176}},{"step":2,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":2.611490673489041,"train_loss":2.4680622100830076,"lr":0.08311303692128176}},{"step":3,"metrics":{"accuracy":0.7222222222222222,"precision":0.8055555555555555,"recall":0.7222222222222223,"f1":0.6476190476190476,"loss":0.5263397958543565,"train_loss":1.7152583519617717,"lr":0.08311303692128176}}],"pace":{"samples_per_second":17679.27669781634,"seconds_left":0.0,"memory":848154624,"utilization":0.7426393583026331,"seconds":{"data":0.012920397001835227,"features":0.007061190998683742,"forward":0.0025006100004247855,"backward":0.0021527340004467987,"measure":0.0031041809997987,"waiting":0.0,"control":0.0},"saved_seconds":33.151783718035404}}',1795942428.95622);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',53,'trial_completed','{"number":10,"state":"complete","attempt":1,"value":0.7222222222222222,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1795942428.95622);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',54,'trial_logged','{"number":11,"state":"running","attempt":1,"chunk":1}',1795942428.95622);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',55,'trial_reported','{"number":11,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.161955303615994,"train_loss":1.1675122340520223,"lr":0.0001},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.1709744135538738,"train_loss":1.1770782947540284,"lr":0.0001}},{"step":2,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.166213141547309,"train_loss":1.1725661754608154,"lr":0.0001}},{"step":3,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.161955303615994,"train_loss":1.1675122340520223,"lr":0.0001}}],"pace":{"samples_per_second":17679.27669781634,"seconds_left":0.0,"memory":848154624,"utilization":0.7426393583026331,"seconds":{"data":0.012920397001835227,"features":0.007061190998683742,"forward":0.0025006100004247855,"backward":0.0021527340004467987,"measure":0.0031041809997987,"waiting":0.0,"control":0.0},"saved_seconds":33.151783718035404}}',1795942428.95622);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',56,'trial_completed','{"number":11,"state":"complete","attempt":1,"value":0.3333333333333333,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1795942428.95622);
INSERT INTO "event" VALUES('bafd9021bb53bf0b',57,'study_completed','{"state":"complete","reason":null}',1.79594242899192118646e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',1,'study_created','{"state":"active","name":"curves"}',1.79594242916756343837e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',2,'study_paused','{"state":"paused"}',1.79594242921868205067e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',3,'trial_queued','{"number":0,"state":"queued","attempt":0,"params":{"lr":0.0003,"optimizer":"adam","weight_decay":1e-06},"source":"user"}',1.79594242939248251913e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',4,'trial_queued','{"number":1,"state":"queued","attempt":0,"params":{"lr":100.0,"optimizer":"sgd","momentum":0.9,"weight_decay":10.0},"source":"user"}',1.79594242942000770569e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',5,'trial_queued','{"number":2,"state":"queued","attempt":0,"params":{"lr":0.001,"optimizer":"adam","weight_decay":1e-06},"source":"user"}',1.79594242945446300511e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',6,'trial_queued','{"number":3,"state":"queued","attempt":0,"params":{"lr":0.1,"optimizer":"adam","weight_decay":1e-06},"source":"user"}',1.79594242948556494709e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',7,'trial_queued','{"number":4,"state":"queued","attempt":0,"params":{"lr":0.0001,"optimizer":"adam","weight_decay":1e-06},"source":"user"}',1.7959424295207874775e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',8,'trial_cancelled','{"number":4,"state":"cancelled","attempt":0,"value":null,"reason":null,"detail":null,"worker":null,"duplicate_of":null}',1.7959424295683977604e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',9,'study_resumed','{"state":"active"}',1.79594242963251709936e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',10,'study_checked','{"state":"active","classes":3,"images":{"train":30,"validation":18,"test":12}}',1.795942430054628849e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',11,'trial_started','{"number":0,"state":"running","attempt":1,"params":{"lr":0.0003,"optimizer":"adam","weight_decay":1e-06},"worker":"box-22129-a68b68","source":"user","step":0}',1795942430.09208);
INSERT INTO "event" VALUES('c1314511aa1238d1',12,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":1}',1.79594243050868320465e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',13,'trial_reported','{"number":0,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.8767060173882378,"train_loss":0.994580598672231,"lr":0.0003},"reports":[{"step":1,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.8767060173882378,"train_loss":0.994580598672231,"lr":0.0003}}],"pace":{"samples_per_second":123.80748322637972,"seconds_left":0.5680373260001943,"memory":855142400,"utilization":0.4611773412294397,"seconds":{"data":0.040575723998699686,"features":0.0,"forward":0.0978735360004066,"backward":0.14135331600027712,"measure":0.03405006899993168,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243050868320465e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',14,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":2}',1.79594243079725122448e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',15,'trial_reported','{"number":0,"state":"running","attempt":1,"step":2,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.7322778171963162,"train_loss":0.9037748456001282,"lr":0.0003},"reports":[{"step":2,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.7322778171963162,"train_loss":0.9037748456001282,"lr":0.0003}}],"pace":{"samples_per_second":145.40407455513662,"seconds_left":0.2265528069992797,"memory":855158784,"utilization":0.34429287957574384,"seconds":{"data":0.04242259899911005,"features":0.0,"forward":0.16662328200072807,"backward":0.26967277199946693,"measure":0.051868270999875676,"waiting":0.07944664299975557,"control":0.077},"saved_seconds":0.0}}',1.79594243079725122448e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',16,'trial_logged','{"number":0,"state":"running","attempt":1,"chunk":3}',1.79594243096373128894e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',17,'trial_reported','{"number":0,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.612393750084771,"train_loss":0.7348711609840393,"lr":0.0003},"reports":[{"step":3,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.612393750084771,"train_loss":0.7348711609840393,"lr":0.0003}}],"pace":{"samples_per_second":299.856959234136,"seconds_left":0.0,"memory":855166976,"utilization":0.4640622365927688,"seconds":{"data":0.04370037699845852,"features":0.0,"forward":0.20335843600150838,"backward":0.3290184839988797,"measure":0.06458525700054452,"waiting":0.14351629199973104,"control":0.114},"saved_seconds":0.0}}',1.79594243096373128894e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',18,'trial_completed','{"number":0,"state":"complete","attempt":1,"value":1.0,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594243096373128894e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',19,'trial_started','{"number":1,"state":"running","attempt":1,"params":{"lr":100.0,"optimizer":"sgd","momentum":0.9,"weight_decay":10.0},"worker":"box-22129-a68b68","source":"user","step":0}',1.79594243102425622947e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',20,'trial_logged','{"number":1,"state":"running","attempt":1,"chunk":1}',1.79594243128901839261e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',21,'trial_reported','{"number":1,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":"pos_inf","train_loss":4.49078721330191e+17,"lr":100.0},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":"pos_inf","train_loss":4.49078721330191e+17,"lr":100.0}}],"pace":{"samples_per_second":177.81245831964367,"seconds_left":0.39711031400111096,"memory":855179264,"utilization":0.5108146915708325,"seconds":{"data":0.03834335900046426,"features":0.0,"forward":0.06736360500053706,"backward":0.0939406110010168,"measure":0.027913832000194816,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243128901839261e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',22,'trial_logged','{"number":1,"state":"running","attempt":1,"chunk":2}',1.79594243153421473501e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',23,'trial_failed','{"number":1,"state":"failed","attempt":1,"value":null,"reason":"diverged","detail":"the training loss was nan in batch 3 of epoch 2, at a learning rate of 100","worker":"box-22129-a68b68","duplicate_of":null}',1.79594243153421473501e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',24,'trial_started','{"number":2,"state":"running","attempt":1,"params":{"lr":0.001,"optimizer":"adam","weight_decay":1e-06},"worker":"box-22129-a68b68","source":"user","step":0}',1.79594243157087373732e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',25,'trial_logged','{"number":2,"state":"running","attempt":1,"chunk":1}',1.79594243188783764838e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',26,'trial_reported','{"number":2,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.6111111111111112,"precision":0.4444444444444445,"recall":0.6111111111111112,"f1":0.5,"loss":0.8055589463975694,"train_loss":0.968785285949707,"lr":0.001},"reports":[{"step":1,"metrics":{"accuracy":0.6111111111111112,"precision":0.4444444444444445,"recall":0.6111111111111112,"f1":0.5,"loss":0.8055589463975694,"train_loss":0.968785285949707,"lr":0.001}}],"pace":{"samples_per_second":131.759959547213,"seconds_left":0.5203521679995902,"memory":855240704,"utilization":0.3268876091155322,"seconds":{"data":0.02730633200098964,"features":0.0,"forward":0.04627733499819442,"backward":0.17929948100027104,"measure":0.03093437699953938,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243188783764838e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',27,'trial_logged','{"number":2,"state":"running","attempt":1,"chunk":2}',1.79594243215407323838e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',28,'trial_reported','{"number":2,"state":"running","attempt":1,"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.4675324675324675,"recall":0.6666666666666666,"f1":0.5429864253393665,"loss":0.4985409842597114,"train_loss":0.6904515266418457,"lr":0.001},"reports":[{"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.4675324675324675,"recall":0.6666666666666666,"f1":0.5429864253393665,"loss":0.4985409842597114,"train_loss":0.6904515266418457,"lr":0.001}}],"pace":{"samples_per_second":158.84584473058965,"seconds_left":0.2220451739995042,"memory":855240704,"utilization":0.4035418702011944,"seconds":{"data":0.02884603000165953,"features":0.0,"forward":0.11243847499827098,"backward":0.29919937700196897,"measure":0.06225264299973787,"waiting":0.009113880000768404,"control":0.014},"saved_seconds":0.0}}',1.79594243215407323838e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',29,'trial_logged','{"number":2,"state":"running","attempt":1,"chunk":3}',1.79594243256444382672e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',30,'trial_reported','{"number":2,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":0.9444444444444444,"precision":0.9523809523809524,"recall":0.9444444444444445,"f1":0.9440559440559442,"loss":0.314236667421129,"train_loss":0.43725826144218444,"lr":0.001},"reports":[{"step":3,"metrics":{"accuracy":0.9444444444444444,"precision":0.9523809523809524,"recall":0.9444444444444445,"f1":0.9440559440559442,"loss":0.314236667421129,"train_loss":0.43725826144218444,"lr":0.001}}],"pace":{"samples_per_second":94.58136785889297,"seconds_left":0.0,"memory":855244800,"utilization":0.21085067268393648,"seconds":{"data":0.03362696600106574,"features":0.0,"forward":0.25838483599818574,"backward":0.463763677003044,"measure":0.11045021999962046,"waiting":0.07380117800130392,"control":0.076},"saved_seconds":0.0}}',1.79594243256444382672e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',31,'trial_completed','{"number":2,"state":"complete","attempt":1,"value":0.9444444444444444,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594243256444382672e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',32,'trial_started','{"number":3,"state":"running","attempt":1,"params":{"lr":0.1,"optimizer":"adam","weight_decay":1e-06},"worker":"box-22129-a68b68","source":"user","step":0}',1.79594243264798545832e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',33,'trial_logged','{"number":3,"state":"running","attempt":1,"chunk":1}',1.79594243290411400789e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',34,'trial_reported','{"number":3,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":35.926177978515625,"train_loss":1.6141496181488038,"lr":0.1},"reports":[{"step":1,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":35.926177978515625,"train_loss":1.6141496181488038,"lr":0.1}}],"pace":{"samples_per_second":385.5774745638102,"seconds_left":0.18711021600029198,"memory":855244800,"utilization":0.764173937172597,"seconds":{"data":0.07855420100077026,"features":0.0,"forward":0.024459323999508342,"backward":0.05154591500013339,"measure":0.014034716999958619,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243290411400789e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',35,'trial_logged','{"number":3,"state":"running","attempt":1,"chunk":2}',1.79594243321441030501e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',36,'trial_reported','{"number":3,"state":"running","attempt":1,"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":14.539176093207466,"train_loss":0.4900696794191996,"lr":0.1},"reports":[{"step":2,"metrics":{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":14.539176093207466,"train_loss":0.4900696794191996,"lr":0.1}}],"pace":{"samples_per_second":200.5185516688078,"seconds_left":0.18387199500011775,"memory":855248896,"utilization":0.3284322100930285,"seconds":{"data":0.08013774100072624,"features":0.0,"forward":0.09077194899873575,"backward":0.13128689100085467,"measure":0.02521428999989439,"waiting":0.10231188800025848,"control":0.041},"saved_seconds":0.0}}',1.79594243321441030501e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',37,'trial_pruned','{"number":3,"state":"pruned","attempt":1,"value":0.6666666666666666,"reason":null,"detail":"The best accuracy up to step 2 is 0.666667, below the median of 2 complete trials at that step: 0.833333.","worker":"box-22129-a68b68","duplicate_of":null}',1.79594243321441030501e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',38,'trial_started','{"number":5,"state":"running","attempt":1,"params":{"lr":0.03626005032850692,"optimizer":"sgd","momentum":0.07919113315684596,"weight_decay":5.393459345358967e-06},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594243328042793266e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',39,'trial_logged','{"number":5,"state":"running","attempt":1,"chunk":1}',1.79594243360596227641e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',40,'trial_reported','{"number":5,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.8333333333333334,"precision":0.8888888888888888,"recall":0.8333333333333334,"f1":0.8222222222222223,"loss":0.9034500122070312,"train_loss":1.055291970570882,"lr":0.03626005032850692},"reports":[{"step":1,"metrics":{"accuracy":0.8333333333333334,"precision":0.8888888888888888,"recall":0.8333333333333334,"f1":0.8222222222222223,"loss":0.9034500122070312,"train_loss":1.055291970570882,"lr":0.03626005032850692}}],"pace":{"samples_per_second":180.98214740295978,"seconds_left":0.3841679060005845,"memory":855248896,"utilization":0.4672089152315581,"seconds":{"data":0.021453808001751895,"features":0.0,"forward":0.06254007999905298,"backward":0.0961711549998654,"measure":0.02474921799966978,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243360596227641e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',41,'trial_logged','{"number":5,"state":"running","attempt":1,"chunk":2}',1.79594243373499727256e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',42,'trial_reported','{"number":5,"state":"running","attempt":1,"step":2,"metrics":{"accuracy":0.8888888888888888,"precision":0.9166666666666666,"recall":0.8888888888888888,"f1":0.8857142857142857,"loss":0.7463800642225478,"train_loss":0.9450332601865132,"lr":0.03626005032850692},"reports":[{"step":2,"metrics":{"accuracy":0.8888888888888888,"precision":0.9166666666666666,"recall":0.8888888888888888,"f1":0.8857142857142857,"loss":0.7463800642225478,"train_loss":0.9450332601865132,"lr":0.03626005032850692}}],"pace":{"samples_per_second":324.8937278007402,"seconds_left":0.10503667800003313,"memory":855248896,"utilization":0.4602313947960611,"seconds":{"data":0.02242674200078909,"features":0.0,"forward":0.09497778399872914,"backward":0.1538556299992706,"measure":0.03510927399929642,"waiting":0.05753639800059318,"control":0.054},"saved_seconds":0.0}}',1.79594243373499727256e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',43,'trial_logged','{"number":5,"state":"running","attempt":1,"chunk":3}',1.79594243383916711805e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',44,'trial_reported','{"number":5,"state":"running","attempt":1,"step":3,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.5757022433810763,"train_loss":0.7338597178459167,"lr":0.03626005032850692},"reports":[{"step":3,"metrics":{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.5757022433810763,"train_loss":0.7338597178459167,"lr":0.03626005032850692}}],"pace":{"samples_per_second":391.3004977699046,"seconds_left":0.0,"memory":855248896,"utilization":0.6647574112441691,"seconds":{"data":0.023347497999566258,"features":0.0,"forward":0.13104391299839335,"backward":0.19276351899952715,"measure":0.04547617399930459,"waiting":0.06906310200065491,"control":0.073},"saved_seconds":0.0}}',1.79594243383916711805e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',45,'trial_completed','{"number":5,"state":"complete","attempt":1,"value":1.0,"reason":null,"detail":null,"worker":"box-22129-a68b68","duplicate_of":null}',1.79594243383916711805e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',46,'trial_started','{"number":6,"state":"running","attempt":1,"params":{"lr":0.14875108931596964,"optimizer":"adam","weight_decay":0.0432264963732324},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594243385668087009e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',47,'trial_logged','{"number":6,"state":"running","attempt":1,"chunk":1}',1795942433.99088);
INSERT INTO "event" VALUES('c1314511aa1238d1',48,'trial_reported','{"number":6,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":8.668628268771702,"train_loss":2.139804685115814,"lr":0.14875108931596964},"reports":[{"step":1,"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":8.668628268771702,"train_loss":2.139804685115814,"lr":0.14875108931596964}}],"pace":{"samples_per_second":542.3028685227313,"seconds_left":0.1359107900007075,"memory":855248896,"utilization":0.9858438655640314,"seconds":{"data":0.027331750999110227,"features":0.0,"forward":0.02034818699939933,"backward":0.03282549300001847,"measure":0.011458304999905522,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1795942433.99088);
INSERT INTO "event" VALUES('c1314511aa1238d1',49,'trial_pruned','{"number":6,"state":"pruned","attempt":1,"value":0.3333333333333333,"reason":null,"detail":"The best accuracy up to step 1 is 0.333333, below the median of 3 complete trials at that step: 0.666667.","worker":"box-22129-a68b68","duplicate_of":null}',1795942433.99088);
INSERT INTO "event" VALUES('c1314511aa1238d1',50,'trial_started','{"number":7,"state":"running","attempt":1,"params":{"lr":0.00019647370474566763,"optimizer":"adam","weight_decay":0.167953073484492},"worker":"box-22129-a68b68","source":"sampler","step":0}',1.79594243403152060509e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',51,'trial_logged','{"number":7,"state":"running","attempt":1,"chunk":1}',1.79594243421017289163e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',52,'trial_reported','{"number":7,"state":"running","attempt":1,"step":1,"metrics":{"accuracy":0.3888888888888889,"precision":0.45098039215686275,"recall":0.3888888888888889,"f1":0.2691511387163561,"loss":1.0583709081013997,"train_loss":1.066799028714498,"lr":0.00019647370474566763},"reports":[{"step":1,"metrics":{"accuracy":0.3888888888888889,"precision":0.45098039215686275,"recall":0.3888888888888889,"f1":0.2691511387163561,"loss":1.0583709081013997,"train_loss":1.066799028714498,"lr":0.00019647370474566763}}],"pace":{"samples_per_second":379.7773426183346,"seconds_left":0.18569808799838938,"memory":855248896,"utilization":0.840837857420129,"seconds":{"data":0.015470901000298909,"features":0.0,"forward":0.02702070699979231,"backward":0.04993604600076651,"measure":0.012482858000112174,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',1.79594243421017289163e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',53,'trial_pruned','{"number":7,"state":"pruned","attempt":1,"value":0.3888888888888889,"reason":null,"detail":"The best accuracy up to step 1 is 0.388889, below the median of 3 complete trials at that step: 0.666667.","worker":"box-22129-a68b68","duplicate_of":null}',1.79594243421017289163e+09);
INSERT INTO "event" VALUES('c1314511aa1238d1',54,'study_completed','{"state":"complete","reason":null}',1.79594243421017289163e+09);
CREATE TABLE idempotency (
	"key" VARCHAR(255) NOT NULL, 
	request_sha256 VARCHAR(64) NOT NULL, 
	answer TEXT, 
	at DOUBLE NOT NULL, study_id VARCHAR(16), 
	PRIMARY KEY ("key")
);
CREATE TABLE log (
	trial INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (trial, attempt, seq), 
	FOREIGN KEY(trial) REFERENCES trial (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "log" VALUES(1,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(2,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(3,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(4,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(5,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(6,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(7,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(8,1,1,1.79594242560298824303e+09,'2026-11-29T08:53:45Z INFO worker: 8 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:31Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 4.14 s in place of 12.4 s expected
2026-11-29T08:53:31Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 6.91 s in place of 20.7 s expected
2026-11-29T08:53:31Z INFO trainer.chronicle: prepared 8 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:31Z INFO trainer.features.source: building the output behind 5 stages for 30 images, view 0
2026-11-29T08:53:41Z INFO trainer.features.source: building the output behind 5 stages for 18 images, view None
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 1 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 1.012, 1,889 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 2 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.9194, 3,370 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: epoch 3 of 3: 8 of 8 runs under way, best accuracy 0.6667, lowest loss 0.8455, 4,664 images/s
2026-11-29T08:53:45Z INFO trainer.chronicle: the pass is over: 8 finished
');
INSERT INTO "log" VALUES(9,1,1,1.79594242884284853931e+09,'2026-11-29T08:53:48Z INFO worker: 2 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:45Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 2.29e-06 s in place of 12.4 s expected
2026-11-29T08:53:45Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 3.82e-06 s in place of 20.7 s expected
2026-11-29T08:53:45Z INFO trainer.chronicle: prepared 2 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:46Z INFO trainer.chronicle: epoch 1 of 3: 2 of 2 runs under way, best accuracy 0.3333, lowest loss 1.211, 4,170 images/s
2026-11-29T08:53:46Z INFO trainer.chronicle: epoch 2 of 3: 2 of 2 runs under way, best accuracy 1.0000, lowest loss 0.5341, 6,648 images/s
2026-11-29T08:53:46Z INFO trainer.chronicle: epoch 3 of 3: 2 of 2 runs under way, best accuracy 0.8889, lowest loss 0.3754, 9,003 images/s
2026-11-29T08:53:46Z INFO trainer.features.source: building the output behind 5 stages for 12 images, view None
2026-11-29T08:53:48Z INFO trainer.chronicle: the pass is over: 2 finished
');
INSERT INTO "log" VALUES(10,1,1,1.79594242884284853931e+09,'2026-11-29T08:53:48Z INFO worker: 2 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:45Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 2.29e-06 s in place of 12.4 s expected
2026-11-29T08:53:45Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 3.82e-06 s in place of 20.7 s expected
2026-11-29T08:53:45Z INFO trainer.chronicle: prepared 2 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:46Z INFO trainer.chronicle: epoch 1 of 3: 2 of 2 runs under way, best accuracy 0.3333, lowest loss 1.211, 4,170 images/s
2026-11-29T08:53:46Z INFO trainer.chronicle: epoch 2 of 3: 2 of 2 runs under way, best accuracy 1.0000, lowest loss 0.5341, 6,648 images/s
2026-11-29T08:53:46Z INFO trainer.chronicle: epoch 3 of 3: 2 of 2 runs under way, best accuracy 0.8889, lowest loss 0.3754, 9,003 images/s
2026-11-29T08:53:46Z INFO trainer.features.source: building the output behind 5 stages for 12 images, view None
2026-11-29T08:53:48Z INFO trainer.chronicle: the pass is over: 2 finished
');
INSERT INTO "log" VALUES(11,1,1,1795942428.95622,'2026-11-29T08:53:48Z INFO worker: 2 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:48Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 2.29e-06 s in place of 12.4 s expected
2026-11-29T08:53:48Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 3.82e-06 s in place of 20.7 s expected
2026-11-29T08:53:48Z INFO trainer.chronicle: prepared 2 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:48Z INFO trainer.chronicle: epoch 1 of 3: 2 of 2 runs under way, best accuracy 0.3333, lowest loss 1.171, 9,054 images/s
2026-11-29T08:53:48Z INFO trainer.chronicle: epoch 2 of 3: 2 of 2 runs under way, best accuracy 0.3333, lowest loss 1.166, 16,822 images/s
2026-11-29T08:53:48Z INFO trainer.chronicle: epoch 3 of 3: 2 of 2 runs under way, best accuracy 0.7222, lowest loss 0.5263, 17,679 images/s
2026-11-29T08:53:48Z INFO trainer.chronicle: the pass is over: 2 finished
');
INSERT INTO "log" VALUES(12,1,1,1795942428.95622,'2026-11-29T08:53:48Z INFO worker: 2 trials shared this pass over the data; the end of what it printed:
2026-11-29T08:53:48Z INFO trainer.features.inputs: validation images, 1 views: stored behind 5 stages, 4.61 kB: 2.29e-06 s in place of 12.4 s expected
2026-11-29T08:53:48Z INFO trainer.features.inputs: training images, 1 views: stored behind 5 stages, 7.68 kB: 3.82e-06 s in place of 20.7 s expected
2026-11-29T08:53:48Z INFO trainer.chronicle: prepared 2 runs in one pass, each small_cnn, 195 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 4 frozen stages read from disk
2026-11-29T08:53:48Z INFO trainer.chronicle: epoch 1 of 3: 2 of 2 runs under way, best accuracy 0.3333, lowest loss 1.171, 9,054 images/s
2026-11-29T08:53:48Z INFO trainer.chronicle: epoch 2 of 3: 2 of 2 runs under way, best accuracy 0.3333, lowest loss 1.166, 16,822 images/s
2026-11-29T08:53:48Z INFO trainer.chronicle: epoch 3 of 3: 2 of 2 runs under way, best accuracy 0.7222, lowest loss 0.5263, 17,679 images/s
2026-11-29T08:53:48Z INFO trainer.chronicle: the pass is over: 2 finished
');
INSERT INTO "log" VALUES(13,1,1,1.79594243050868320465e+09,'2026-11-29T08:53:50Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:50Z INFO trainer.chronicle: epoch 1 of 3: loss 0.8767, accuracy 0.6667, train_loss 0.9946, lr 0.0003, 124 images/s
');
INSERT INTO "log" VALUES(13,1,2,1.79594243079725122448e+09,'2026-11-29T08:53:50Z INFO trainer.chronicle: epoch 2 of 3: loss 0.7323, accuracy 1, train_loss 0.9038, lr 0.0003, 145 images/s
');
INSERT INTO "log" VALUES(13,1,3,1.79594243096373128894e+09,'2026-11-29T08:53:50Z INFO trainer.chronicle: epoch 3 of 3: loss 0.6124, accuracy 1, train_loss 0.7349, lr 0.0003, 300 images/s
2026-11-29T08:53:50Z INFO trainer.chronicle: finished 3 epochs in 0.6 s, 855.2 MB of memory at most
');
INSERT INTO "log" VALUES(14,1,1,1.79594243128901839261e+09,'2026-11-29T08:53:51Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:51Z INFO trainer.chronicle: epoch 1 of 3: loss inf, accuracy 0.3333, train_loss 4.491e+17, lr 100, 178 images/s
');
INSERT INTO "log" VALUES(14,1,2,1.79594243153421473501e+09,'2026-11-29T08:53:51Z ERROR trainer.chronicle: failed after epoch 1: diverged: the training loss was nan in batch 3 of epoch 2, at a learning rate of 100
2026-11-29T08:53:51Z INFO worker: failed after epoch 1: diverged: the training loss was nan in batch 3 of epoch 2, at a learning rate of 100
');
INSERT INTO "log" VALUES(15,1,1,1.79594243188783764838e+09,'2026-11-29T08:53:51Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:51Z INFO trainer.chronicle: epoch 1 of 3: loss 0.8056, accuracy 0.6111, train_loss 0.9688, lr 0.001, 132 images/s
');
INSERT INTO "log" VALUES(15,1,2,1.79594243215407323838e+09,'2026-11-29T08:53:52Z INFO trainer.chronicle: epoch 2 of 3: loss 0.4985, accuracy 0.6667, train_loss 0.6905, lr 0.001, 159 images/s
');
INSERT INTO "log" VALUES(15,1,3,1.79594243256444382672e+09,'2026-11-29T08:53:52Z INFO trainer.chronicle: epoch 3 of 3: loss 0.3142, accuracy 0.9444, train_loss 0.4373, lr 0.001, 95 images/s
2026-11-29T08:53:52Z INFO trainer.chronicle: finished 3 epochs in 0.9 s, 855.2 MB of memory at most
');
INSERT INTO "log" VALUES(16,1,1,1.79594243290411400789e+09,'2026-11-29T08:53:52Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:52Z INFO trainer.chronicle: epoch 1 of 3: loss 35.93, accuracy 0.6667, train_loss 1.614, lr 0.1, 386 images/s
');
INSERT INTO "log" VALUES(16,1,2,1.79594243321441030501e+09,'2026-11-29T08:53:53Z INFO trainer.chronicle: epoch 2 of 3: loss 14.54, accuracy 0.6667, train_loss 0.4901, lr 0.1, 201 images/s
2026-11-29T08:53:53Z INFO trainer.chronicle: stopped as told, after epoch 2
2026-11-29T08:53:53Z INFO worker: pruned after epoch 2: The best accuracy up to step 2 is 0.666667, below the median of 2 complete trials at that step: 0.833333.
');
INSERT INTO "log" VALUES(18,1,1,1.79594243360596227641e+09,'2026-11-29T08:53:53Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:53Z INFO trainer.chronicle: epoch 1 of 3: loss 0.9035, accuracy 0.8333, train_loss 1.055, lr 0.03626, 181 images/s
');
INSERT INTO "log" VALUES(18,1,2,1.79594243373499727256e+09,'2026-11-29T08:53:53Z INFO trainer.chronicle: epoch 2 of 3: loss 0.7464, accuracy 0.8889, train_loss 0.945, lr 0.03626, 325 images/s
');
INSERT INTO "log" VALUES(18,1,3,1.79594243383916711805e+09,'2026-11-29T08:53:53Z INFO trainer.chronicle: epoch 3 of 3: loss 0.5757, accuracy 1, train_loss 0.7339, lr 0.03626, 391 images/s
2026-11-29T08:53:53Z INFO trainer.chronicle: finished 3 epochs in 0.4 s, 855.2 MB of memory at most
');
INSERT INTO "log" VALUES(19,1,1,1795942433.99088,'2026-11-29T08:53:53Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:53Z INFO trainer.chronicle: epoch 1 of 3: loss 8.669, accuracy 0.3333, train_loss 2.14, lr 0.1488, 542 images/s
2026-11-29T08:53:53Z INFO worker: pruned after epoch 1: The best accuracy up to step 1 is 0.333333, below the median of 3 complete trials at that step: 0.666667.
');
INSERT INTO "log" VALUES(20,1,1,1.79594243421017289163e+09,'2026-11-29T08:53:54Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:54Z INFO trainer.chronicle: epoch 1 of 3: loss 1.058, accuracy 0.3889, train_loss 1.067, lr 0.0001965, 380 images/s
2026-11-29T08:53:54Z INFO trainer.chronicle: stopped as told, after epoch 1
2026-11-29T08:53:54Z INFO worker: pruned after epoch 1: The best accuracy up to step 1 is 0.388889, below the median of 3 complete trials at that step: 0.666667.
');
INSERT INTO "log" VALUES(21,1,1,1.79594243490211749074e+09,'2026-11-29T08:53:54Z INFO trainer.chronicle: prepared small_cnn, 47,027 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached
2026-11-29T08:53:54Z INFO trainer.chronicle: epoch 1 of 3: loss 0.9995, accuracy 0.3333, train_loss 1.03, lr 0.004044, 280 images/s
2026-11-29T08:53:54Z INFO trainer.chronicle: epoch 2 of 3: loss 0.954, accuracy 0.5556, train_loss 1.029, lr 0.004044, 446 images/s
2026-11-29T08:53:54Z INFO trainer.chronicle: epoch 3 of 3: loss 0.9211, accuracy 0.6111, train_loss 0.9596, lr 0.004044, 372 images/s
2026-11-29T08:53:54Z INFO trainer.chronicle: finished 3 epochs in 0.3 s, 855.3 MB of memory at most
');
INSERT INTO "log" VALUES(23,1,1,1.79594243863471436498e+09,'2026-11-29T08:53:57Z INFO trainer.features.inputs: validation images, 1 views: stored behind 1 stages, 75.5 MB: 313 s in place of 6.62e+03 s expected
2026-11-29T08:53:57Z INFO trainer.features.inputs: training images, 1 views: stored behind 1 stages, 126 MB: 522 s in place of 1.1e+04 s expected
2026-11-29T08:53:57Z INFO trainer.chronicle: prepared small_cnn, 46,563 of 47,027 parameters to train: AMD EPYC, 1 threads, float32; 30 images to train on, 18 to validate, 3 classes; images cached, the output of 1 frozen stages read from disk
2026-11-29T08:53:57Z INFO trainer.features.source: building the output behind 1 stages for 30 images, view 0
');
INSERT INTO "log" VALUES(23,1,2,1.79594245476643013951e+09,'2026-11-29T08:54:13Z INFO trainer.features.source: building the output behind 1 stages for 18 images, view None
');
INSERT INTO "log" VALUES(23,1,3,1.79594245926796650886e+09,'2026-11-29T08:54:18Z INFO trainer.chronicle: epoch 1 of 5000: loss 0.7601, accuracy 0.7222, train_loss 0.9667, lr 0.001, 2 images/s
2026-11-29T08:54:18Z INFO trainer.chronicle: checkpoint after epoch 1: 0.6 MB
');
INSERT INTO "log" VALUES(23,1,4,1.79594247621568298342e+09,'2026-11-29T08:54:35Z INFO trainer.chronicle: epoch 2 of 5000: loss 0.5622, accuracy 1, train_loss 0.7783, lr 0.001, 2 images/s
2026-11-29T08:54:35Z INFO trainer.chronicle: checkpoint after epoch 2: 0.6 MB
');
CREATE TABLE manifest (
	study_id VARCHAR(16) NOT NULL, 
	digests TEXT NOT NULL, 
	PRIMARY KEY (study_id), 
	FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "manifest" VALUES('bafd9021bb53bf0b','Arn25gRA+0QEvoJVBPWAIQmoMzEQ2yPLGNnlhhl7+ugZpTu7H2nnuTHHNn86g10hPHc28EMZ0BlDzeN7ULgzzFUH449X9UjBWHG72VjQaUVfTWXQZWghh2r1AP93+vFFfHDq3n5ijtB/i2qYgDr6iIOjzjmIcR+iik0yx4p3u+mS9cHclPpZGJlSDhaau5l2o+EYcqabQd2pxo2Kqjpd56tji+2sRat7twZM8L8wzqjWME+I100Jq9oCmePbRCXo3wNklN/nZSvgNiai4R1+peXWfzXnYCWK7kBRmfKfNrzzXIUW+BovkvtA0qz7tpV2.YlQUgIBBlQIGJQBYYCAk');
INSERT INTO "manifest" VALUES('c1314511aa1238d1','Arn25gRA+0QEvoJVBPWAIQmoMzEQ2yPLGNnlhhl7+ugZpTu7H2nnuTHHNn86g10hPHc28EMZ0BlDzeN7ULgzzFUH449X9UjBWHG72VjQaUVfTWXQZWghh2r1AP93+vFFfHDq3n5ijtB/i2qYgDr6iIOjzjmIcR+iik0yx4p3u+mS9cHclPpZGJlSDhaau5l2o+EYcqabQd2pxo2Kqjpd56tji+2sRat7twZM8L8wzqjWME+I100Jq9oCmePbRCXo3wNklN/nZSvgNiai4R1+peXWfzXnYCWK7kBRmfKfNrzzXIUW+BovkvtA0qz7tpV2.YlQUgIBBlQIGJQBYYCAk');
INSERT INTO "manifest" VALUES('32f66e01ecd8b41c','Arn25gRA+0QEvoJVBPWAIQmoMzEQ2yPLGNnlhhl7+ugZpTu7H2nnuTHHNn86g10hPHc28EMZ0BlDzeN7ULgzzFUH449X9UjBWHG72VjQaUVfTWXQZWghh2r1AP93+vFFfHDq3n5ijtB/i2qYgDr6iIOjzjmIcR+iik0yx4p3u+mS9cHclPpZGJlSDhaau5l2o+EYcqabQd2pxo2Kqjpd56tji+2sRat7twZM8L8wzqjWME+I100Jq9oCmePbRCXo3wNklN/nZSvgNiai4R1+peXWfzXnYCWK7kBRmfKfNrzzXIUW+BovkvtA0qz7tpV2.YlQUgIBBlQIGJQBYYCAk');
INSERT INTO "manifest" VALUES('527b768a5704dd89','Arn25gRA+0QEvoJVBPWAIQmoMzEQ2yPLGNnlhhl7+ugZpTu7H2nnuTHHNn86g10hPHc28EMZ0BlDzeN7ULgzzFUH449X9UjBWHG72VjQaUVfTWXQZWghh2r1AP93+vFFfHDq3n5ijtB/i2qYgDr6iIOjzjmIcR+iik0yx4p3u+mS9cHclPpZGJlSDhaau5l2o+EYcqabQd2pxo2Kqjpd56tji+2sRat7twZM8L8wzqjWME+I100Jq9oCmePbRCXo3wNklN/nZSvgNiai4R1+peXWfzXnYCWK7kBRmfKfNrzzXIUW+BovkvtA0qz7tpV2.YlQUgIBBlQIGJQBYYCAk');
CREATE TABLE metric (
	trial INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	value DOUBLE, 
	kind VARCHAR(8) NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (trial, step, name), 
	CONSTRAINT ck_metric_value_is_finite CHECK ((kind = 'finite') = (value IS NOT NULL)), 
	CONSTRAINT ck_metric_kind CHECK (kind IN ('finite', 'nan', 'pos_inf', 'neg_inf', 'missing')), 
	FOREIGN KEY(trial) REFERENCES trial (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metric" VALUES(1,1,'accuracy',1,0.5,'finite',13);
INSERT INTO "metric" VALUES(1,1,'f1',1,4.44444444444444419772e-01,'finite',13);
INSERT INTO "metric" VALUES(1,1,'loss',1,1.04738065931532120522e+00,'finite',13);
INSERT INTO "metric" VALUES(1,1,'lr',1,0.0001,'finite',13);
INSERT INTO "metric" VALUES(1,1,'precision',1,0.5,'finite',13);
INSERT INTO "metric" VALUES(1,1,'recall',1,0.5,'finite',13);
INSERT INTO "metric" VALUES(1,1,'train_loss',1,1.05319039026896166255e+00,'finite',13);
INSERT INTO "metric" VALUES(1,2,'accuracy',1,4.44444444444444419772e-01,'finite',13);
INSERT INTO "metric" VALUES(1,2,'f1',1,3.88888888888888839545e-01,'finite',13);
INSERT INTO "metric" VALUES(1,2,'loss',1,1.04583814409044051352e+00,'finite',13);
INSERT INTO "metric" VALUES(1,2,'lr',1,0.0001,'finite',13);
INSERT INTO "metric" VALUES(1,2,'precision',1,0.5,'finite',13);
INSERT INTO "metric" VALUES(1,2,'recall',1,4.44444444444444419772e-01,'finite',13);
INSERT INTO "metric" VALUES(1,2,'train_loss',1,1.05067069133122759083e+00,'finite',13);
INSERT INTO "metric" VALUES(1,3,'accuracy',1,5.55555555555555580227e-01,'finite',13);
INSERT INTO "metric" VALUES(1,3,'f1',1,4.88888888888888928363e-01,'finite',13);
INSERT INTO "metric" VALUES(1,3,'loss',1,1.04426479339599609375e+00,'finite',13);
INSERT INTO "metric" VALUES(1,3,'lr',1,0.0001,'finite',13);
INSERT INTO "metric" VALUES(1,3,'precision',1,0.5,'finite',13);
INSERT INTO "metric" VALUES(1,3,'recall',1,5.55555555555555469204e-01,'finite',13);
INSERT INTO "metric" VALUES(1,3,'train_loss',1,1.04881062507629407853e+00,'finite',13);
INSERT INTO "metric" VALUES(2,1,'accuracy',1,3.33333333333333314829e-01,'finite',16);
INSERT INTO "metric" VALUES(2,1,'f1',1,1.66666666666666657414e-01,'finite',16);
INSERT INTO "metric" VALUES(2,1,'loss',1,1.3738984002007379459e+00,'finite',16);
INSERT INTO "metric" VALUES(2,1,'lr',1,8.31130369212817604607e-02,'finite',16);
INSERT INTO "metric" VALUES(2,1,'precision',1,1.11111111111111104943e-01,'finite',16);
INSERT INTO "metric" VALUES(2,1,'recall',1,3.33333333333333314829e-01,'finite',16);
INSERT INTO "metric" VALUES(2,1,'train_loss',1,2.90864683787028,'finite',16);
INSERT INTO "metric" VALUES(2,2,'accuracy',1,6.66666666666666629659e-01,'finite',16);
INSERT INTO "metric" VALUES(2,2,'f1',1,5.55555555555555469204e-01,'finite',16);
INSERT INTO "metric" VALUES(2,2,'loss',1,9.19386651780870201022e-01,'finite',16);
INSERT INTO "metric" VALUES(2,2,'lr',1,8.31130369212817604607e-02,'finite',16);
INSERT INTO "metric" VALUES(2,2,'precision',1,0.5,'finite',16);
INSERT INTO "metric" VALUES(2,2,'recall',1,6.66666666666666629659e-01,'finite',16);
INSERT INTO "metric" VALUES(2,2,'train_loss',1,1.53281174103419015608e+00,'finite',16);
INSERT INTO "metric" VALUES(2,3,'accuracy',1,6.66666666666666629659e-01,'finite',16);
INSERT INTO "metric" VALUES(2,3,'f1',1,5.55555555555555469204e-01,'finite',16);
INSERT INTO "metric" VALUES(2,3,'loss',1,8.45517052544487834886e-01,'finite',16);
INSERT INTO "metric" VALUES(2,3,'lr',1,8.31130369212817604607e-02,'finite',16);
INSERT INTO "metric" VALUES(2,3,'precision',1,0.5,'finite',16);
INSERT INTO "metric" VALUES(2,3,'recall',1,6.66666666666666629659e-01,'finite',16);
INSERT INTO "metric" VALUES(2,3,'train_loss',1,6.6734280983606975024e-01,'finite',16);
INSERT INTO "metric" VALUES(3,1,'accuracy',1,6.66666666666666629659e-01,'finite',19);
INSERT INTO "metric" VALUES(3,1,'f1',1,5.55555555555555469204e-01,'finite',19);
INSERT INTO "metric" VALUES(3,1,'loss',1,1.01159434848361540204e+00,'finite',19);
INSERT INTO "metric" VALUES(3,1,'lr',1,4.89713531663473096433e-03,'finite',19);
INSERT INTO "metric" VALUES(3,1,'precision',1,0.5,'finite',19);
INSERT INTO "metric" VALUES(3,1,'recall',1,6.66666666666666629659e-01,'finite',19);
INSERT INTO "metric" VALUES(3,1,'train_loss',1,1.13241204420725516399e+00,'finite',19);
INSERT INTO "metric" VALUES(3,2,'accuracy',1,6.11111111111111160454e-01,'finite',19);
INSERT INTO "metric" VALUES(3,2,'f1',1,5.13556618819776655726e-01,'finite',19);
INSERT INTO "metric" VALUES(3,2,'loss',1,1.0037493175930447542e+00,'finite',19);
INSERT INTO "metric" VALUES(3,2,'lr',1,4.89713531663473096433e-03,'finite',19);
INSERT INTO "metric" VALUES(3,2,'precision',1,4.87179487179487225034e-01,'finite',19);
INSERT INTO "metric" VALUES(3,2,'recall',1,6.11111111111111160454e-01,'finite',19);
INSERT INTO "metric" VALUES(3,2,'train_loss',1,1.04016748269399,'finite',19);
INSERT INTO "metric" VALUES(3,3,'accuracy',1,3.33333333333333314829e-01,'finite',19);
INSERT INTO "metric" VALUES(3,3,'f1',1,1.66666666666666657414e-01,'finite',19);
INSERT INTO "metric" VALUES(3,3,'loss',1,9.7572422027587890625e-01,'finite',19);
INSERT INTO "metric" VALUES(3,3,'lr',1,4.89713531663473096433e-03,'finite',19);
INSERT INTO "metric" VALUES(3,3,'precision',1,1.11111111111111104943e-01,'finite',19);
INSERT INTO "metric" VALUES(3,3,'recall',1,3.33333333333333314829e-01,'finite',19);
INSERT INTO "metric" VALUES(3,3,'train_loss',1,1.01168775558471657483e+00,'finite',19);
INSERT INTO "metric" VALUES(4,1,'accuracy',1,3.88888888888888895056e-01,'finite',22);
INSERT INTO "metric" VALUES(4,1,'f1',1,3.06878306878306861271e-01,'finite',22);
INSERT INTO "metric" VALUES(4,1,'loss',1,1.13637034098307299068e+00,'finite',22);
INSERT INTO "metric" VALUES(4,1,'lr',1,2.73854877613999595983e-03,'finite',22);
INSERT INTO "metric" VALUES(4,1,'precision',1,3.33333333333333314829e-01,'finite',22);
INSERT INTO "metric" VALUES(4,1,'recall',1,3.88888888888888895056e-01,'finite',22);
INSERT INTO "metric" VALUES(4,1,'train_loss',1,1.18720447222391767283e+00,'finite',22);
INSERT INTO "metric" VALUES(4,2,'accuracy',1,4.44444444444444419772e-01,'finite',22);
INSERT INTO "metric" VALUES(4,2,'f1',1,3.66666666666666696272e-01,'finite',22);
INSERT INTO "metric" VALUES(4,2,'loss',1,1.10220675998263883954e+00,'finite',22);
INSERT INTO "metric" VALUES(4,2,'lr',1,2.73854877613999595983e-03,'finite',22);
INSERT INTO "metric" VALUES(4,2,'precision',1,3.69047619047619068766e-01,'finite',22);
INSERT INTO "metric" VALUES(4,2,'recall',1,4.44444444444444475283e-01,'finite',22);
INSERT INTO "metric" VALUES(4,2,'train_loss',1,1.13639465967814135005e+00,'finite',22);
INSERT INTO "metric" VALUES(4,3,'accuracy',1,3.33333333333333314829e-01,'finite',22);
INSERT INTO "metric" VALUES(4,3,'f1',1,2.22222222222222209886e-01,'finite',22);
INSERT INTO "metric" VALUES(4,3,'loss',1,1.07718859778510189784e+00,'finite',22);
INSERT INTO "metric" VALUES(4,3,'lr',1,2.73854877613999595983e-03,'finite',22);
INSERT INTO "metric" VALUES(4,3,'precision',1,1.66666666666666657414e-01,'finite',22);
INSERT INTO "metric" VALUES(4,3,'recall',1,3.33333333333333314829e-01,'finite',22);
INSERT INTO "metric" VALUES(4,3,'train_loss',1,1.09371136029561366598e+00,'finite',22);
INSERT INTO "metric" VALUES(5,1,'accuracy',1,6.66666666666666629659e-01,'finite',25);
INSERT INTO "metric" VALUES(5,1,'f1',1,5.55555555555555469204e-01,'finite',25);
INSERT INTO "metric" VALUES(5,1,'loss',1,1.04202673170301651772e+00,'finite',25);
INSERT INTO "metric" VALUES(5,1,'lr',1,2.61833855306555602845e-03,'finite',25);
INSERT INTO "metric" VALUES(5,1,'precision',1,0.5,'finite',25);
INSERT INTO "metric" VALUES(5,1,'recall',1,6.66666666666666629659e-01,'finite',25);
INSERT INTO "metric" VALUES(5,1,'train_loss',1,1.08646330038706451226e+00,'finite',25);
INSERT INTO "metric" VALUES(5,2,'accuracy',1,6.66666666666666629659e-01,'finite',25);
INSERT INTO "metric" VALUES(5,2,'f1',1,5.55555555555555469204e-01,'finite',25);
INSERT INTO "metric" VALUES(5,2,'loss',1,1.00405322180853939784e+00,'finite',25);
INSERT INTO "metric" VALUES(5,2,'lr',1,2.61833855306555602845e-03,'finite',25);
INSERT INTO "metric" VALUES(5,2,'precision',1,0.5,'finite',25);
INSERT INTO "metric" VALUES(5,2,'recall',1,6.66666666666666629659e-01,'finite',25);
INSERT INTO "metric" VALUES(5,2,'train_loss',1,1.04943073193232216944e+00,'finite',25);
INSERT INTO "metric" VALUES(5,3,'accuracy',1,6.66666666666666629659e-01,'finite',25);
INSERT INTO "metric" VALUES(5,3,'f1',1,5.55555555555555469204e-01,'finite',25);
INSERT INTO "metric" VALUES(5,3,'loss',1,9.85827657911512611477e-01,'finite',25);
INSERT INTO "metric" VALUES(5,3,'lr',1,2.61833855306555602845e-03,'finite',25);
INSERT INTO "metric" VALUES(5,3,'precision',1,0.5,'finite',25);
INSERT INTO "metric" VALUES(5,3,'recall',1,6.66666666666666629659e-01,'finite',25);
INSERT INTO "metric" VALUES(5,3,'train_loss',1,1.00592794815699271282e+00,'finite',25);
INSERT INTO "metric" VALUES(6,1,'accuracy',1,3.33333333333333314829e-01,'finite',28);
INSERT INTO "metric" VALUES(6,1,'f1',1,1.66666666666666657414e-01,'finite',28);
INSERT INTO "metric" VALUES(6,1,'loss',1,1.12020238240559888431e+00,'finite',28);
INSERT INTO "metric" VALUES(6,1,'lr',1,1.90420719273158263809e-03,'finite',28);
INSERT INTO "metric" VALUES(6,1,'precision',1,1.11111111111111104943e-01,'finite',28);
INSERT INTO "metric" VALUES(6,1,'recall',1,3.33333333333333314829e-01,'finite',28);
INSERT INTO "metric" VALUES(6,1,'train_loss',1,1.13471652666727695901e+00,'finite',28);
INSERT INTO "metric" VALUES(6,2,'accuracy',1,3.33333333333333314829e-01,'finite',28);
INSERT INTO "metric" VALUES(6,2,'f1',1,1.81818181818181795472e-01,'finite',28);
INSERT INTO "metric" VALUES(6,2,'loss',1,1.10463078816731763431e+00,'finite',28);
INSERT INTO "metric" VALUES(6,2,'lr',1,1.90420719273158263809e-03,'finite',28);
INSERT INTO "metric" VALUES(6,2,'precision',1,0.125,'finite',28);
INSERT INTO "metric" VALUES(6,2,'recall',1,3.33333333333333314829e-01,'finite',28);
INSERT INTO "metric" VALUES(6,2,'train_loss',1,1.12150960763295493016e+00,'finite',28);
INSERT INTO "metric" VALUES(6,3,'accuracy',1,3.33333333333333314829e-01,'finite',28);
INSERT INTO "metric" VALUES(6,3,'f1',1,2.22222222222222209886e-01,'finite',28);
INSERT INTO "metric" VALUES(6,3,'loss',1,1.09209760030110669681e+00,'finite',28);
INSERT INTO "metric" VALUES(6,3,'lr',1,1.90420719273158263809e-03,'finite',28);
INSERT INTO "metric" VALUES(6,3,'precision',1,1.66666666666666657414e-01,'finite',28);
INSERT INTO "metric" VALUES(6,3,'recall',1,3.33333333333333314829e-01,'finite',28);
INSERT INTO "metric" VALUES(6,3,'train_loss',1,1.10022294521331787109e+00,'finite',28);
INSERT INTO "metric" VALUES(7,1,'accuracy',1,3.88888888888888895056e-01,'finite',31);
INSERT INTO "metric" VALUES(7,1,'f1',1,2.86576168929110142169e-01,'finite',31);
INSERT INTO "metric" VALUES(7,1,'loss',1,1.03981696234809017909e+00,'finite',31);
INSERT INTO "metric" VALUES(7,1,'lr',1,3.85682627708287730644e-03,'finite',31);
INSERT INTO "metric" VALUES(7,1,'precision',1,2.29437229437229411876e-01,'finite',31);
INSERT INTO "metric" VALUES(7,1,'recall',1,3.88888888888888895056e-01,'finite',31);
INSERT INTO "metric" VALUES(7,1,'train_loss',1,1.17893234888712572505e+00,'finite',31);
INSERT INTO "metric" VALUES(7,2,'accuracy',1,6.66666666666666629659e-01,'finite',31);
INSERT INTO "metric" VALUES(7,2,'f1',1,5.4298642533936647414e-01,'finite',31);
INSERT INTO "metric" VALUES(7,2,'loss',1,9.97692637973361495795e-01,'finite',31);
INSERT INTO "metric" VALUES(7,2,'lr',1,3.85682627708287730644e-03,'finite',31);
INSERT INTO "metric" VALUES(7,2,'precision',1,4.67532467532467521653e-01,'finite',31);
INSERT INTO "metric" VALUES(7,2,'recall',1,6.66666666666666629659e-01,'finite',31);
INSERT INTO "metric" VALUES(7,2,'train_loss',1,1.03095002969106053214e+00,'finite',31);
INSERT INTO "metric" VALUES(7,3,'accuracy',1,6.11111111111111160454e-01,'finite',31);
INSERT INTO "metric" VALUES(7,3,'f1',1,5.13556618819776655726e-01,'finite',31);
INSERT INTO "metric" VALUES(7,3,'loss',1,9.68551211886935714545e-01,'finite',31);
INSERT INTO "metric" VALUES(7,3,'lr',1,3.85682627708287730644e-03,'finite',31);
INSERT INTO "metric" VALUES(7,3,'precision',1,4.87179487179487225034e-01,'finite',31);
INSERT INTO "metric" VALUES(7,3,'recall',1,6.11111111111111160454e-01,'finite',31);
INSERT INTO "metric" VALUES(7,3,'train_loss',1,0.994798227151235,'finite',31);
INSERT INTO "metric" VALUES(8,1,'accuracy',1,3.33333333333333314829e-01,'finite',34);
INSERT INTO "metric" VALUES(8,1,'f1',1,1.66666666666666657414e-01,'finite',34);
INSERT INTO "metric" VALUES(8,1,'loss',1,1.03252707587348080409e+00,'finite',34);
INSERT INTO "metric" VALUES(8,1,'lr',1,1.401690781683564372e-04,'finite',34);
INSERT INTO "metric" VALUES(8,1,'precision',1,1.11111111111111104943e-01,'finite',34);
INSERT INTO "metric" VALUES(8,1,'recall',1,3.33333333333333314829e-01,'finite',34);
INSERT INTO "metric" VALUES(8,1,'train_loss',1,1.03711109956105529406e+00,'finite',34);
INSERT INTO "metric" VALUES(8,2,'accuracy',1,3.33333333333333314829e-01,'finite',34);
INSERT INTO "metric" VALUES(8,2,'f1',1,1.66666666666666657414e-01,'finite',34);
INSERT INTO "metric" VALUES(8,2,'loss',1,1.03099536895751953125e+00,'finite',34);
INSERT INTO "metric" VALUES(8,2,'lr',1,1.401690781683564372e-04,'finite',34);
INSERT INTO "metric" VALUES(8,2,'precision',1,1.11111111111111104943e-01,'finite',34);
INSERT INTO "metric" VALUES(8,2,'recall',1,3.33333333333333314829e-01,'finite',34);
INSERT INTO "metric" VALUES(8,2,'train_loss',1,1.03420337835947662163e+00,'finite',34);
INSERT INTO "metric" VALUES(8,3,'accuracy',1,3.88888888888888895056e-01,'finite',34);
INSERT INTO "metric" VALUES(8,3,'f1',1,2.69151138716356097546e-01,'finite',34);
INSERT INTO "metric" VALUES(8,3,'loss',1,1.02924452887641049159e+00,'finite',34);
INSERT INTO "metric" VALUES(8,3,'lr',1,1.401690781683564372e-04,'finite',34);
INSERT INTO "metric" VALUES(8,3,'precision',1,4.50980392156862752717e-01,'finite',34);
INSERT INTO "metric" VALUES(8,3,'recall',1,3.88888888888888895056e-01,'finite',34);
INSERT INTO "metric" VALUES(8,3,'train_loss',1,1.03241411844889308113e+00,'finite',34);
INSERT INTO "metric" VALUES(9,1,'accuracy',1,3.33333333333333314829e-01,'finite',43);
INSERT INTO "metric" VALUES(9,1,'f1',1,1.66666666666666657414e-01,'finite',43);
INSERT INTO "metric" VALUES(9,1,'loss',1,1.21089299519856763431e+00,'finite',43);
INSERT INTO "metric" VALUES(9,1,'lr',1,8.31130369212817604607e-02,'finite',43);
INSERT INTO "metric" VALUES(9,1,'precision',1,1.11111111111111104943e-01,'finite',43);
INSERT INTO "metric" VALUES(9,1,'recall',1,3.33333333333333314829e-01,'finite',43);
INSERT INTO "metric" VALUES(9,1,'train_loss',1,1.97704478899637825506e+00,'finite',43);
INSERT INTO "metric" VALUES(9,2,'accuracy',1,1.0,'finite',43);
INSERT INTO "metric" VALUES(9,2,'f1',1,1.0,'finite',43);
INSERT INTO "metric" VALUES(9,2,'loss',1,0.534079392751058,'finite',43);
INSERT INTO "metric" VALUES(9,2,'lr',1,8.31130369212817604607e-02,'finite',43);
INSERT INTO "metric" VALUES(9,2,'precision',1,1.0,'finite',43);
INSERT INTO "metric" VALUES(9,2,'recall',1,1.0,'finite',43);
INSERT INTO "metric" VALUES(9,2,'train_loss',1,1.23236117760340357918e+00,'finite',43);
INSERT INTO "metric" VALUES(9,3,'accuracy',1,8.88888888888888839545e-01,'finite',43);
INSERT INTO "metric" VALUES(9,3,'f1',1,8.8571428571428567622e-01,'finite',43);
INSERT INTO "metric" VALUES(9,3,'loss',1,3.75360250473022460937e-01,'finite',43);
INSERT INTO "metric" VALUES(9,3,'lr',1,8.31130369212817604607e-02,'finite',43);
INSERT INTO "metric" VALUES(9,3,'precision',1,9.16666666666666629659e-01,'finite',43);
INSERT INTO "metric" VALUES(9,3,'recall',1,8.88888888888888839545e-01,'finite',43);
INSERT INTO "metric" VALUES(9,3,'train_loss',1,7.01270004113515144084e-01,'finite',43);
INSERT INTO "metric" VALUES(10,1,'accuracy',1,3.33333333333333314829e-01,'finite',44);
INSERT INTO "metric" VALUES(10,1,'f1',1,1.66666666666666657414e-01,'finite',44);
INSERT INTO "metric" VALUES(10,1,'loss',1,1.30539162953694654056e+00,'finite',44);
INSERT INTO "metric" VALUES(10,1,'lr',1,0.0001,'finite',44);
INSERT INTO "metric" VALUES(10,1,'precision',1,1.11111111111111104943e-01,'finite',44);
INSERT INTO "metric" VALUES(10,1,'recall',1,3.33333333333333314829e-01,'finite',44);
INSERT INTO "metric" VALUES(10,1,'train_loss',1,1.30873115062713618605e+00,'finite',44);
INSERT INTO "metric" VALUES(10,2,'accuracy',1,3.33333333333333314829e-01,'finite',44);
INSERT INTO "metric" VALUES(10,2,'f1',1,1.66666666666666657414e-01,'finite',44);
INSERT INTO "metric" VALUES(10,2,'loss',1,1.29819605085584854897e+00,'finite',44);
INSERT INTO "metric" VALUES(10,2,'lr',1,0.0001,'finite',44);
INSERT INTO "metric" VALUES(10,2,'precision',1,1.11111111111111104943e-01,'finite',44);
INSERT INTO "metric" VALUES(10,2,'recall',1,3.33333333333333314829e-01,'finite',44);
INSERT INTO "metric" VALUES(10,2,'train_loss',1,1.30163220167160043061e+00,'finite',44);
INSERT INTO "metric" VALUES(10,3,'accuracy',1,3.33333333333333314829e-01,'finite',44);
INSERT INTO "metric" VALUES(10,3,'f1',1,1.66666666666666657414e-01,'finite',44);
INSERT INTO "metric" VALUES(10,3,'loss',1,1.29198307461208772295e+00,'finite',44);
INSERT INTO "metric" VALUES(10,3,'lr',1,0.0001,'finite',44);
INSERT INTO "metric" VALUES(10,3,'precision',1,1.11111111111111104943e-01,'finite',44);
INSERT INTO "metric" VALUES(10,3,'recall',1,3.33333333333333314829e-01,'finite',44);
INSERT INTO "metric" VALUES(10,3,'train_loss',1,1.29431517918904637198e+00,'finite',44);
INSERT INTO "metric" VALUES(11,1,'accuracy',1,3.33333333333333314829e-01,'finite',52);
INSERT INTO "metric" VALUES(11,1,'f1',1,1.66666666666666657414e-01,'finite',52);
INSERT INTO "metric" VALUES(11,1,'loss',1,1.84889475504557299068e+00,'finite',52);
INSERT INTO "metric" VALUES(11,1,'lr',1,8.31130369212817604607e-02,'finite',52);
INSERT INTO "metric" VALUES(11,1,'precision',1,1.11111111111111104943e-01,'finite',52);
INSERT INTO "metric" VALUES(11,1,'recall',1,3.33333333333333314829e-01,'finite',52);
INSERT INTO "metric" VALUES(11,1,'train_loss',1,2.97589190800984715323e+00,'finite',52);
INSERT INTO "metric" VALUES(11,2,'accuracy',1,3.33333333333333314829e-01,'finite',52);
INSERT INTO "metric" VALUES(11,2,'f1',1,1.66666666666666657414e-01,'finite',52);
INSERT INTO "metric" VALUES(11,2,'loss',1,2.61149067348904084795e+00,'finite',52);
INSERT INTO "metric" VALUES(11,2,'lr',1,8.31130369212817604607e-02,'finite',52);
INSERT INTO "metric" VALUES(11,2,'precision',1,1.11111111111111104943e-01,'finite',52);
INSERT INTO "metric" VALUES(11,2,'recall',1,3.33333333333333314829e-01,'finite',52);
INSERT INTO "metric" VALUES(11,2,'train_loss',1,2.46806221008300763486e+00,'finite',52);
INSERT INTO "metric" VALUES(11,3,'accuracy',1,7.22222222222222209886e-01,'finite',52);
INSERT INTO "metric" VALUES(11,3,'f1',1,6.4761904761904764971e-01,'finite',52);
INSERT INTO "metric" VALUES(11,3,'loss',1,5.26339795854356529147e-01,'finite',52);
INSERT INTO "metric" VALUES(11,3,'lr',1,8.31130369212817604607e-02,'finite',52);
INSERT INTO "metric" VALUES(11,3,'precision',1,8.05555555555555469204e-01,'finite',52);
INSERT INTO "metric" VALUES(11,3,'recall',1,7.22222222222222320908e-01,'finite',52);
INSERT INTO "metric" VALUES(11,3,'train_loss',1,1.71525835196177167674e+00,'finite',52);
INSERT INTO "metric" VALUES(12,1,'accuracy',1,3.33333333333333314829e-01,'finite',55);
INSERT INTO "metric" VALUES(12,1,'f1',1,1.66666666666666657414e-01,'finite',55);
INSERT INTO "metric" VALUES(12,1,'loss',1,1.17097441355387377193e+00,'finite',55);
INSERT INTO "metric" VALUES(12,1,'lr',1,0.0001,'finite',55);
INSERT INTO "metric" VALUES(12,1,'precision',1,1.11111111111111104943e-01,'finite',55);
INSERT INTO "metric" VALUES(12,1,'recall',1,3.33333333333333314829e-01,'finite',55);
INSERT INTO "metric" VALUES(12,1,'train_loss',1,1.17707829475402836472e+00,'finite',55);
INSERT INTO "metric" VALUES(12,2,'accuracy',1,3.33333333333333314829e-01,'finite',55);
INSERT INTO "metric" VALUES(12,2,'f1',1,1.66666666666666657414e-01,'finite',55);
INSERT INTO "metric" VALUES(12,2,'loss',1,1.16621314154730892909e+00,'finite',55);
INSERT INTO "metric" VALUES(12,2,'lr',1,0.0001,'finite',55);
INSERT INTO "metric" VALUES(12,2,'precision',1,1.11111111111111104943e-01,'finite',55);
INSERT INTO "metric" VALUES(12,2,'recall',1,3.33333333333333314829e-01,'finite',55);
INSERT INTO "metric" VALUES(12,2,'train_loss',1,1.17256617546081542968e+00,'finite',55);
INSERT INTO "metric" VALUES(12,3,'accuracy',1,3.33333333333333314829e-01,'finite',55);
INSERT INTO "metric" VALUES(12,3,'f1',1,1.66666666666666657414e-01,'finite',55);
INSERT INTO "metric" VALUES(12,3,'loss',1,1.16195530361599397295e+00,'finite',55);
INSERT INTO "metric" VALUES(12,3,'lr',1,0.0001,'finite',55);
INSERT INTO "metric" VALUES(12,3,'precision',1,1.11111111111111104943e-01,'finite',55);
INSERT INTO "metric" VALUES(12,3,'recall',1,3.33333333333333314829e-01,'finite',55);
INSERT INTO "metric" VALUES(12,3,'train_loss',1,1.16751223405202231298e+00,'finite',55);
INSERT INTO "metric" VALUES(13,1,'accuracy',1,6.66666666666666629659e-01,'finite',13);
INSERT INTO "metric" VALUES(13,1,'f1',1,5.55555555555555469204e-01,'finite',13);
INSERT INTO "metric" VALUES(13,1,'loss',1,8.76706017388237834886e-01,'finite',13);
INSERT INTO "metric" VALUES(13,1,'lr',1,0.0003,'finite',13);
INSERT INTO "metric" VALUES(13,1,'precision',1,0.5,'finite',13);
INSERT INTO "metric" VALUES(13,1,'recall',1,6.66666666666666629659e-01,'finite',13);
INSERT INTO "metric" VALUES(13,1,'train_loss',1,0.994580598672231,'finite',13);
INSERT INTO "metric" VALUES(13,2,'accuracy',1,1.0,'finite',15);
INSERT INTO "metric" VALUES(13,2,'f1',1,1.0,'finite',15);
INSERT INTO "metric" VALUES(13,2,'loss',1,7.32277817196316238579e-01,'finite',15);
INSERT INTO "metric" VALUES(13,2,'lr',1,0.0003,'finite',15);
INSERT INTO "metric" VALUES(13,2,'precision',1,1.0,'finite',15);
INSERT INTO "metric" VALUES(13,2,'recall',1,1.0,'finite',15);
INSERT INTO "metric" VALUES(13,2,'train_loss',1,9.03774845600128218237e-01,'finite',15);
INSERT INTO "metric" VALUES(13,3,'accuracy',1,1.0,'finite',17);
INSERT INTO "metric" VALUES(13,3,'f1',1,1.0,'finite',17);
INSERT INTO "metric" VALUES(13,3,'loss',1,0.612393750084771,'finite',17);
INSERT INTO "metric" VALUES(13,3,'lr',1,0.0003,'finite',17);
INSERT INTO "metric" VALUES(13,3,'precision',1,1.0,'finite',17);
INSERT INTO "metric" VALUES(13,3,'recall',1,1.0,'finite',17);
INSERT INTO "metric" VALUES(13,3,'train_loss',1,7.34871160984039262231e-01,'finite',17);
INSERT INTO "metric" VALUES(14,1,'accuracy',1,3.33333333333333314829e-01,'finite',21);
INSERT INTO "metric" VALUES(14,1,'f1',1,1.66666666666666657414e-01,'finite',21);
INSERT INTO "metric" VALUES(14,1,'loss',1,NULL,'pos_inf',21);
INSERT INTO "metric" VALUES(14,1,'lr',1,100.0,'finite',21);
INSERT INTO "metric" VALUES(14,1,'precision',1,1.11111111111111104943e-01,'finite',21);
INSERT INTO "metric" VALUES(14,1,'recall',1,3.33333333333333314829e-01,'finite',21);
INSERT INTO "metric" VALUES(14,1,'train_loss',1,4.49078721330191e+17,'finite',21);
INSERT INTO "metric" VALUES(15,1,'accuracy',1,6.11111111111111160454e-01,'finite',26);
INSERT INTO "metric" VALUES(15,1,'f1',1,0.5,'finite',26);
INSERT INTO "metric" VALUES(15,1,'loss',1,8.05558946397569419772e-01,'finite',26);
INSERT INTO "metric" VALUES(15,1,'lr',1,0.001,'finite',26);
INSERT INTO "metric" VALUES(15,1,'precision',1,4.44444444444444475283e-01,'finite',26);
INSERT INTO "metric" VALUES(15,1,'recall',1,6.11111111111111160454e-01,'finite',26);
INSERT INTO "metric" VALUES(15,1,'train_loss',1,0.968785285949707,'finite',26);
INSERT INTO "metric" VALUES(15,2,'accuracy',1,6.66666666666666629659e-01,'finite',28);
INSERT INTO "metric" VALUES(15,2,'f1',1,5.4298642533936647414e-01,'finite',28);
INSERT INTO "metric" VALUES(15,2,'loss',1,4.98540984259711383863e-01,'finite',28);
INSERT INTO "metric" VALUES(15,2,'lr',1,0.001,'finite',28);
INSERT INTO "metric" VALUES(15,2,'precision',1,4.67532467532467521653e-01,'finite',28);
INSERT INTO "metric" VALUES(15,2,'recall',1,6.66666666666666629659e-01,'finite',28);
INSERT INTO "metric" VALUES(15,2,'train_loss',1,6.90451526641845725329e-01,'finite',28);
INSERT INTO "metric" VALUES(15,3,'accuracy',1,9.44444444444444419772e-01,'finite',30);
INSERT INTO "metric" VALUES(15,3,'f1',1,9.44055944055944173953e-01,'finite',30);
INSERT INTO "metric" VALUES(15,3,'loss',1,0.314236667421129,'finite',30);
INSERT INTO "metric" VALUES(15,3,'lr',1,0.001,'finite',30);
INSERT INTO "metric" VALUES(15,3,'precision',1,9.52380952380952439106e-01,'finite',30);
INSERT INTO "metric" VALUES(15,3,'recall',1,9.44444444444444530795e-01,'finite',30);
INSERT INTO "metric" VALUES(15,3,'train_loss',1,4.37258261442184437139e-01,'finite',30);
INSERT INTO "metric" VALUES(16,1,'accuracy',1,6.66666666666666629659e-01,'finite',34);
INSERT INTO "metric" VALUES(16,1,'f1',1,5.55555555555555469204e-01,'finite',34);
INSERT INTO "metric" VALUES(16,1,'loss',1,3.59261779785156249995e+01,'finite',34);
INSERT INTO "metric" VALUES(16,1,'lr',1,0.1,'finite',34);
INSERT INTO "metric" VALUES(16,1,'precision',1,0.5,'finite',34);
INSERT INTO "metric" VALUES(16,1,'recall',1,6.66666666666666629659e-01,'finite',34);
INSERT INTO "metric" VALUES(16,1,'train_loss',1,1.61414961814880375534e+00,'finite',34);
INSERT INTO "metric" VALUES(16,2,'accuracy',1,6.66666666666666629659e-01,'finite',36);
INSERT INTO "metric" VALUES(16,2,'f1',1,5.55555555555555469204e-01,'finite',36);
INSERT INTO "metric" VALUES(16,2,'loss',1,1.45391760932074660668e+01,'finite',36);
INSERT INTO "metric" VALUES(16,2,'lr',1,0.1,'finite',36);
INSERT INTO "metric" VALUES(16,2,'precision',1,0.5,'finite',36);
INSERT INTO "metric" VALUES(16,2,'recall',1,6.66666666666666629659e-01,'finite',36);
INSERT INTO "metric" VALUES(16,2,'train_loss',1,4.90069679419199599745e-01,'finite',36);
INSERT INTO "metric" VALUES(18,1,'accuracy',1,8.3333333333333337034e-01,'finite',40);
INSERT INTO "metric" VALUES(18,1,'f1',1,8.22222222222222298704e-01,'finite',40);
INSERT INTO "metric" VALUES(18,1,'loss',1,9.0345001220703125e-01,'finite',40);
INSERT INTO "metric" VALUES(18,1,'lr',1,3.62600503285069181158e-02,'finite',40);
INSERT INTO "metric" VALUES(18,1,'precision',1,8.88888888888888839545e-01,'finite',40);
INSERT INTO "metric" VALUES(18,1,'recall',1,8.3333333333333337034e-01,'finite',40);
INSERT INTO "metric" VALUES(18,1,'train_loss',1,1.05529197057088208744e+00,'finite',40);
INSERT INTO "metric" VALUES(18,2,'accuracy',1,8.88888888888888839545e-01,'finite',42);
INSERT INTO "metric" VALUES(18,2,'f1',1,8.8571428571428567622e-01,'finite',42);
INSERT INTO "metric" VALUES(18,2,'loss',1,7.46380064222547767727e-01,'finite',42);
INSERT INTO "metric" VALUES(18,2,'lr',1,3.62600503285069181158e-02,'finite',42);
INSERT INTO "metric" VALUES(18,2,'precision',1,9.16666666666666629659e-01,'finite',42);
INSERT INTO "metric" VALUES(18,2,'recall',1,8.88888888888888839545e-01,'finite',42);
INSERT INTO "metric" VALUES(18,2,'train_loss',1,9.45033260186513235368e-01,'finite',42);
INSERT INTO "metric" VALUES(18,3,'accuracy',1,1.0,'finite',44);
INSERT INTO "metric" VALUES(18,3,'f1',1,1.0,'finite',44);
INSERT INTO "metric" VALUES(18,3,'loss',1,5.75702243381076339545e-01,'finite',44);
INSERT INTO "metric" VALUES(18,3,'lr',1,3.62600503285069181158e-02,'finite',44);
INSERT INTO "metric" VALUES(18,3,'precision',1,1.0,'finite',44);
INSERT INTO "metric" VALUES(18,3,'recall',1,1.0,'finite',44);
INSERT INTO "metric" VALUES(18,3,'train_loss',1,7.33859717845916748046e-01,'finite',44);
INSERT INTO "metric" VALUES(19,1,'accuracy',1,3.33333333333333314829e-01,'finite',48);
INSERT INTO "metric" VALUES(19,1,'f1',1,1.66666666666666657414e-01,'finite',48);
INSERT INTO "metric" VALUES(19,1,'loss',1,8.66862826877170178363e+00,'finite',48);
INSERT INTO "metric" VALUES(19,1,'lr',1,1.48751089315969642346e-01,'finite',48);
INSERT INTO "metric" VALUES(19,1,'precision',1,1.11111111111111104943e-01,'finite',48);
INSERT INTO "metric" VALUES(19,1,'recall',1,3.33333333333333314829e-01,'finite',48);
INSERT INTO "metric" VALUES(19,1,'train_loss',1,2.13980468511581412016e+00,'finite',48);
INSERT INTO "metric" VALUES(20,1,'accuracy',1,3.88888888888888895056e-01,'finite',52);
INSERT INTO "metric" VALUES(20,1,'f1',1,2.69151138716356097546e-01,'finite',52);
INSERT INTO "metric" VALUES(20,1,'loss',1,1.05837090810139966556e+00,'finite',52);
INSERT INTO "metric" VALUES(20,1,'lr',1,1.96473704745667626702e-04,'finite',52);
INSERT INTO "metric" VALUES(20,1,'precision',1,4.50980392156862752717e-01,'finite',52);
INSERT INTO "metric" VALUES(20,1,'recall',1,3.88888888888888895056e-01,'finite',52);
INSERT INTO "metric" VALUES(20,1,'train_loss',1,1.06679902871449794332e+00,'finite',52);
INSERT INTO "metric" VALUES(21,1,'accuracy',1,3.33333333333333314829e-01,'finite',5);
INSERT INTO "metric" VALUES(21,1,'f1',1,1.66666666666666657414e-01,'finite',5);
INSERT INTO "metric" VALUES(21,1,'loss',1,9.99453332689073326022e-01,'finite',5);
INSERT INTO "metric" VALUES(21,1,'lr',1,4.04387800951510733432e-03,'finite',5);
INSERT INTO "metric" VALUES(21,1,'precision',1,1.11111111111111104943e-01,'finite',5);
INSERT INTO "metric" VALUES(21,1,'recall',1,3.33333333333333314829e-01,'finite',5);
INSERT INTO "metric" VALUES(21,1,'train_loss',1,1.02967511812845868846e+00,'finite',5);
INSERT INTO "metric" VALUES(21,2,'accuracy',1,5.55555555555555580227e-01,'finite',5);
INSERT INTO "metric" VALUES(21,2,'f1',1,4.66666666666666618557e-01,'finite',5);
INSERT INTO "metric" VALUES(21,2,'loss',1,9.5403607686360680784e-01,'finite',5);
INSERT INTO "metric" VALUES(21,2,'lr',1,4.04387800951510733432e-03,'finite',5);
INSERT INTO "metric" VALUES(21,2,'precision',1,4.76190476190476219553e-01,'finite',5);
INSERT INTO "metric" VALUES(21,2,'recall',1,5.55555555555555469204e-01,'finite',5);
INSERT INTO "metric" VALUES(21,2,'train_loss',1,1.02930399179458609282e+00,'finite',5);
INSERT INTO "metric" VALUES(21,3,'accuracy',1,6.11111111111111160454e-01,'finite',5);
INSERT INTO "metric" VALUES(21,3,'f1',1,5.72431077694235512787e-01,'finite',5);
INSERT INTO "metric" VALUES(21,3,'loss',1,9.21060244242350223409e-01,'finite',5);
INSERT INTO "metric" VALUES(21,3,'lr',1,4.04387800951510733432e-03,'finite',5);
INSERT INTO "metric" VALUES(21,3,'precision',1,8.20512820512820595375e-01,'finite',5);
INSERT INTO "metric" VALUES(21,3,'recall',1,0.611111111111111,'finite',5);
INSERT INTO "metric" VALUES(21,3,'train_loss',1,9.5955907503763837596e-01,'finite',5);
INSERT INTO "metric" VALUES(23,1,'accuracy',1,7.22222222222222209886e-01,'finite',9);
INSERT INTO "metric" VALUES(23,1,'f1',1,6.4761904761904764971e-01,'finite',9);
INSERT INTO "metric" VALUES(23,1,'loss',1,7.60073079003228069261e-01,'finite',9);
INSERT INTO "metric" VALUES(23,1,'lr',1,0.001,'finite',9);
INSERT INTO "metric" VALUES(23,1,'precision',1,8.05555555555555469204e-01,'finite',9);
INSERT INTO "metric" VALUES(23,1,'recall',1,7.22222222222222320908e-01,'finite',9);
INSERT INTO "metric" VALUES(23,1,'train_loss',1,9.66718451182047577852e-01,'finite',9);
INSERT INTO "metric" VALUES(23,2,'accuracy',1,1.0,'finite',12);
INSERT INTO "metric" VALUES(23,2,'f1',1,1.0,'finite',12);
INSERT INTO "metric" VALUES(23,2,'loss',1,5.62195460001627567159e-01,'finite',12);
INSERT INTO "metric" VALUES(23,2,'lr',1,0.001,'finite',12);
INSERT INTO "metric" VALUES(23,2,'precision',1,1.0,'finite',12);
INSERT INTO "metric" VALUES(23,2,'recall',1,1.0,'finite',12);
INSERT INTO "metric" VALUES(23,2,'train_loss',1,7.78289417425791385518e-01,'finite',12);
CREATE TABLE session_key (
	one INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	PRIMARY KEY (one), 
	CONSTRAINT ck_session_key_single CHECK (one = 1)
);
INSERT INTO "session_key" VALUES(1,'4555e8e58f00595a5ad48a119ed59e906b234f9db4973b602290bad85937e458');
CREATE TABLE standstill (
	trial INTEGER NOT NULL, 
	heartbeats BIGINT NOT NULL, 
	seconds DOUBLE NOT NULL, 
	PRIMARY KEY (trial), 
	FOREIGN KEY(trial) REFERENCES trial (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE study (
	id VARCHAR(16) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	spec TEXT NOT NULL, 
	facts TEXT, 
	created INTEGER NOT NULL, 
	exhausted BOOLEAN NOT NULL, 
	seq BIGINT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, failures INTEGER DEFAULT '0' NOT NULL, confirmation TEXT, unpublished BIGINT, recheck BOOLEAN DEFAULT 0 NOT NULL, idle_seconds DOUBLE DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT ck_study_state CHECK (state IN ('active', 'paused', 'stopped', 'complete', 'failed')), 
	UNIQUE (name)
);
INSERT INTO "study" VALUES('bafd9021bb53bf0b','heads','complete',NULL,'{"name":"heads","task":"image_classification","data":{"path":"/data/golden/squares","validation":0.3,"test":0.2,"seed":0,"location":"server"},"model":{"name":"small_cnn","weights":"/data/golden/weights.safetensors","mean":null,"std":null},"preset":null,"search_space":{"lr":{"type":"float","low":0.0001,"high":0.1,"log":true,"step":null,"when":{}},"optimizer":{"type":"categorical","choices":["sgd","adam"],"when":{}},"momentum":{"type":"float","low":0.0,"high":0.9,"log":false,"step":null,"when":{"optimizer":["sgd"]}}},"fixed":{"epochs":3,"image_size":256,"batch_size":8,"frozen_layers":4},"baseline":{"lr":0.0001,"optimizer":"adam"},"objective":{"metric":"accuracy","direction":"maximize"},"sampler":{"seed":0,"name":"random"},"pruner":{"name":"none"},"budget":{"trials":8,"hours":null,"parallel":null},"limits":{"attempts":3,"failures":20,"minutes":null,"checkpoint_seconds":60.0,"lanes":null},"confirm":{"top":1,"seeds":2}}','{"classes":["blue","green","red"],"images":{"train":30,"validation":18,"test":12},"fingerprint":"79962740e0baf068d44a143901ab12261be4b657806b9748cb6f5f715f47b26c","split":"1c6119b43b479ad0525ccb958b758f75a021df6ae69714cfb8d3848b901b1a8f","class_counts":{"train":[10,10,10],"validation":[6,6,6],"test":[4,4,4]},"weights_sha256":"6cd54ab462c10697199369dedb38ba912de0d0779bddf5381154780b35caceaa","near_duplicates":{"groups":0,"images":0,"crossing":0,"mixed":0,"too_large":0,"examples":[]},"listing":{"given":[],"folders":[],"columns":{},"separator":null,"unused_columns":[],"groups":null,"heic":false,"left_out":[],"notes":[]},"weights":{"format":"safetensors","name":null,"container":[],"prefix":"","wrappers":[],"unused":[],"left_out":0,"examples":[]},"normalisation":{"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"source":"assumed"}}',12,0,57,1.79594239189217925066e+09,1.79594240930459356306e+09,1.79594242899192118646e+09,0,'{"arms":[1,0],"baseline":0}',NULL,0,0.0);
INSERT INTO "study" VALUES('c1314511aa1238d1','curves','complete',NULL,'{"name":"curves","task":"image_classification","data":{"path":"/data/golden/squares","validation":0.3,"test":0.2,"seed":0,"location":"server"},"model":{"name":"small_cnn","weights":"/data/golden/weights.safetensors","mean":null,"std":null},"preset":null,"search_space":{"lr":{"type":"float","low":0.0001,"high":100.0,"log":true,"step":null,"when":{}},"optimizer":{"type":"categorical","choices":["sgd","adam"],"when":{}},"momentum":{"type":"float","low":0.0,"high":0.9,"log":false,"step":null,"when":{"optimizer":["sgd"]}},"weight_decay":{"type":"float","low":1e-6,"high":10.0,"log":true,"step":null,"when":{}}},"fixed":{"epochs":3,"image_size":16,"batch_size":8},"baseline":null,"objective":{"metric":"accuracy","direction":"maximize"},"sampler":{"seed":0,"name":"random"},"pruner":{"name":"median","n_startup_trials":2,"n_warmup_steps":0,"interval_steps":1,"n_min_trials":1},"budget":{"trials":8,"hours":null,"parallel":null},"limits":{"attempts":3,"failures":20,"minutes":null,"checkpoint_seconds":60.0,"lanes":null},"confirm":null}','{"classes":["blue","green","red"],"images":{"train":30,"validation":18,"test":12},"fingerprint":"79962740e0baf068d44a143901ab12261be4b657806b9748cb6f5f715f47b26c","split":"1c6119b43b479ad0525ccb958b758f75a021df6ae69714cfb8d3848b901b1a8f","class_counts":{"train":[10,10,10],"validation":[6,6,6],"test":[4,4,4]},"weights_sha256":"6cd54ab462c10697199369dedb38ba912de0d0779bddf5381154780b35caceaa","near_duplicates":{"groups":0,"images":0,"crossing":0,"mixed":0,"too_large":0,"examples":[]},"listing":{"given":[],"folders":[],"columns":{},"separator":null,"unused_columns":[],"groups":null,"heic":false,"left_out":[],"notes":[]},"weights":{"format":"safetensors","name":null,"container":[],"prefix":"","wrappers":[],"unused":[],"left_out":0,"examples":[]},"normalisation":{"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"source":"assumed"}}',8,0,54,1.79594242916368532179e+09,1.79594243009788489349e+09,1.79594243421017289163e+09,0,NULL,NULL,0,0.0);
INSERT INTO "study" VALUES('32f66e01ecd8b41c','stopped','stopped',NULL,'{"name":"stopped","task":"image_classification","data":{"path":"/data/golden/squares","validation":0.3,"test":0.2,"seed":0,"location":"server"},"model":{"name":"small_cnn","weights":"/data/golden/weights.safetensors","mean":null,"std":null},"preset":null,"search_space":{"lr":{"type":"float","low":0.0001,"high":0.1,"log":true,"step":null,"when":{}},"optimizer":{"type":"categorical","choices":["sgd","adam"],"when":{}},"momentum":{"type":"float","low":0.0,"high":0.9,"log":false,"step":null,"when":{"optimizer":["sgd"]}}},"fixed":{"epochs":3,"image_size":16,"batch_size":8},"baseline":null,"objective":{"metric":"accuracy","direction":"maximize"},"sampler":{"seed":0,"name":"random"},"pruner":{"name":"none"},"budget":{"trials":5,"hours":null,"parallel":null},"limits":{"attempts":3,"failures":20,"minutes":null,"checkpoint_seconds":60.0,"lanes":null},"confirm":null}','{"classes":["blue","green","red"],"images":{"train":30,"validation":18,"test":12},"fingerprint":"79962740e0baf068d44a143901ab12261be4b657806b9748cb6f5f715f47b26c","split":"1c6119b43b479ad0525ccb958b758f75a021df6ae69714cfb8d3848b901b1a8f","class_counts":{"train":[10,10,10],"validation":[6,6,6],"test":[4,4,4]},"weights_sha256":"6cd54ab462c10697199369dedb38ba912de0d0779bddf5381154780b35caceaa","near_duplicates":{"groups":0,"images":0,"crossing":0,"mixed":0,"too_large":0,"examples":[]},"listing":{"given":[],"folders":[],"columns":{},"separator":null,"unused_columns":[],"groups":null,"heic":false,"left_out":[],"notes":[]},"weights":{"format":"safetensors","name":null,"container":[],"prefix":"","wrappers":[],"unused":[],"left_out":0,"examples":[]},"normalisation":{"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"source":"assumed"}}',2,0,9,1.79594243435713315009e+09,1.79594243450015592575e+09,1.79594243506733751295e+09,0,NULL,NULL,0,0.0);
INSERT INTO "study" VALUES('afd3ce38f3bea564','paused','paused',NULL,'{"name":"paused","task":"image_classification","data":{"path":"/data/golden/squares","validation":0.3,"test":0.2,"seed":0,"location":"server"},"model":{"name":"small_cnn","weights":"/data/golden/weights.safetensors","mean":null,"std":null},"preset":null,"search_space":{"lr":{"type":"float","low":0.0001,"high":0.1,"log":true,"step":null,"when":{}},"optimizer":{"type":"categorical","choices":["sgd","adam"],"when":{}},"momentum":{"type":"float","low":0.0,"high":0.9,"log":false,"step":null,"when":{"optimizer":["sgd"]}}},"fixed":{"epochs":3,"image_size":16,"batch_size":8},"baseline":null,"objective":{"metric":"accuracy","direction":"maximize"},"sampler":{"seed":0,"name":"random"},"pruner":{"name":"none"},"budget":{"trials":5,"hours":null,"parallel":null},"limits":{"attempts":3,"failures":20,"minutes":null,"checkpoint_seconds":60.0,"lanes":null},"confirm":null}',NULL,0,0,2,1.79594243529036116597e+09,NULL,NULL,0,NULL,NULL,0,0.0);
INSERT INTO "study" VALUES('527b768a5704dd89','under-way','active',NULL,'{"name":"under-way","task":"image_classification","data":{"path":"/data/golden/squares","validation":0.3,"test":0.2,"seed":0,"location":"server"},"model":{"name":"small_cnn","weights":"/data/golden/weights.safetensors","mean":null,"std":null},"preset":null,"search_space":{"lr":{"type":"float","low":0.0001,"high":0.1,"log":true,"step":null,"when":{}},"optimizer":{"type":"categorical","choices":["sgd","adam"],"when":{}},"momentum":{"type":"float","low":0.0,"high":0.9,"log":false,"step":null,"when":{"optimizer":["sgd"]}}},"fixed":{"epochs":5000,"image_size":256,"batch_size":8,"frozen_layers":1},"baseline":null,"objective":{"metric":"accuracy","direction":"maximize"},"sampler":{"seed":0,"name":"random"},"pruner":{"name":"none"},"budget":{"trials":5,"hours":null,"parallel":null},"limits":{"attempts":3,"failures":20,"minutes":null,"checkpoint_seconds":0.0,"lanes":null},"confirm":null}','{"classes":["blue","green","red"],"images":{"train":30,"validation":18,"test":12},"fingerprint":"79962740e0baf068d44a143901ab12261be4b657806b9748cb6f5f715f47b26c","split":"1c6119b43b479ad0525ccb958b758f75a021df6ae69714cfb8d3848b901b1a8f","class_counts":{"train":[10,10,10],"validation":[6,6,6],"test":[4,4,4]},"weights_sha256":"6cd54ab462c10697199369dedb38ba912de0d0779bddf5381154780b35caceaa","near_duplicates":{"groups":0,"images":0,"crossing":0,"mixed":0,"too_large":0,"examples":[]},"listing":{"given":[],"folders":[],"columns":{},"separator":null,"unused_columns":[],"groups":null,"heic":false,"left_out":[],"notes":[]},"weights":{"format":"safetensors","name":null,"container":[],"prefix":"","wrappers":[],"unused":[],"left_out":0,"examples":[]},"normalisation":{"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225],"source":"assumed"}}',1,0,13,1.79594243547698783876e+09,1.79594243587224030494e+09,NULL,0,NULL,NULL,0,0.0);
CREATE TABLE thaw_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT thaw_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "thaw_schema" VALUES('0010');
CREATE TABLE trial (
	id INTEGER NOT NULL, 
	study_id VARCHAR(16) NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	params JSON NOT NULL, 
	params_key VARCHAR(64) NOT NULL, 
	value DOUBLE, 
	value_kind VARCHAR(8) NOT NULL, 
	metrics JSON NOT NULL, 
	step INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	lost INTEGER NOT NULL, 
	heartbeat BIGINT NOT NULL, 
	worker VARCHAR(128), 
	checkpoints JSON NOT NULL, 
	reason VARCHAR(16), 
	detail TEXT, 
	duplicate_of INTEGER, 
	source VARCHAR(16) NOT NULL, 
	memory JSON NOT NULL, 
	result JSON NOT NULL, 
	changed BIGINT NOT NULL, 
	queued_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, crashes INTEGER DEFAULT '0' NOT NULL, confirms INTEGER, round INTEGER CONSTRAINT ck_trial_confirmation_has_round CHECK ((source = 'confirmation') = (confirms IS NOT NULL AND round IS NOT NULL)), least_device_bytes BIGINT, 
	PRIMARY KEY (id), 
	CONSTRAINT ck_trial_failure_has_reason CHECK ((state = 'failed') = (reason IS NOT NULL)), 
	CONSTRAINT ck_trial_value_is_finite CHECK ((value_kind = 'finite') = (value IS NOT NULL)), 
	CONSTRAINT ck_trial_reason CHECK (reason IN ('out_of_memory', 'diverged', 'crashed', 'timeout', 'bad_data', 'script_error', 'lost', 'infeasible')), 
	CONSTRAINT ck_trial_running_has_lease CHECK (state <> 'running' OR (worker IS NOT NULL AND attempt > 0)), 
	CONSTRAINT ck_trial_state CHECK (state IN ('queued', 'running', 'paused', 'complete', 'pruned', 'failed', 'cancelled')), 
	CONSTRAINT ck_trial_value_kind CHECK (value_kind IN ('finite', 'nan', 'pos_inf', 'neg_inf', 'missing')), 
	FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE, 
	UNIQUE (study_id, number)
);
INSERT INTO "trial" VALUES(1,'bafd9021bb53bf0b',0,'complete','{"lr":0.0001,"optimizer":"adam"}','7015c4058767471241b939a71f62575d3f78a93f4eb7188ec9dd9ed896594a0c',5.55555555555555580227e-01,'finite','{"accuracy":0.5555555555555556,"precision":0.5,"recall":0.5555555555555555,"f1":0.48888888888888893,"loss":1.044264793395996,"train_loss":1.048810625076294,"lr":0.0001}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'baseline','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":1.0,"green":0.6666666666666666,"red":0.0},"confusion_matrix":[[6,0,0],[0,4,2],[6,0,0]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',14,1.7959423919099636078e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(2,'bafd9021bb53bf0b',1,'complete','{"lr":0.08311303692128176,"optimizer":"adam"}','2356f96589392e292c4eff4553e7c178edef14b88a62acef47d5296c980ed269',6.66666666666666629659e-01,'finite','{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.8455170525444878,"train_loss":0.6673428098360698,"lr":0.08311303692128176}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":0.0,"green":1.0,"red":1.0},"confusion_matrix":[[0,0,6],[0,6,0],[0,0,6]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',17,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(3,'bafd9021bb53bf0b',2,'complete','{"lr":0.004897135316634731,"optimizer":"adam"}','993660c5b71a88b459e302c971aa91954d33225a92e256c08fe85ae5d293d442',3.33333333333333314829e-01,'finite','{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":0.9757242202758789,"train_loss":1.0116877555847166,"lr":0.004897135316634731}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":1.0,"green":0.0,"red":0.0},"confusion_matrix":[[6,0,0],[6,0,0],[6,0,0]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',20,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(4,'bafd9021bb53bf0b',3,'complete','{"lr":0.002738548776139996,"optimizer":"sgd","momentum":0.5560957668219918}','532aed9fe6a044de4610efafff5687ee0fcc15b7b1bf3d857b1b34bd54d9e444',3.33333333333333314829e-01,'finite','{"accuracy":0.3333333333333333,"precision":0.16666666666666666,"recall":0.3333333333333333,"f1":0.2222222222222222,"loss":1.077188597785102,"train_loss":1.0937113602956137,"lr":0.002738548776139996}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":1.0,"green":0.0,"red":0.0},"confusion_matrix":[[6,0,0],[0,0,6],[6,0,0]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',23,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(5,'bafd9021bb53bf0b',4,'complete','{"lr":0.002618338553065556,"optimizer":"sgd","momentum":0.45459417298987564}','14655d4cee82dfed991a12f18a2e6d92c60126493c585c0084d44b21266f9dac',6.66666666666666629659e-01,'finite','{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":0.9858276579115126,"train_loss":1.0059279481569927,"lr":0.002618338553065556}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":1.0,"green":1.0,"red":0.0},"confusion_matrix":[[6,0,0],[0,6,0],[6,0,0]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',26,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(6,'bafd9021bb53bf0b',5,'complete','{"lr":0.0019042071927315826,"optimizer":"sgd","momentum":0.07919113315684596}','50b8bd70c73eb2418c6c2da5c0d78adce226e49592dcffdaca1e766c45a7e910',3.33333333333333314829e-01,'finite','{"accuracy":0.3333333333333333,"precision":0.16666666666666666,"recall":0.3333333333333333,"f1":0.2222222222222222,"loss":1.0920976003011067,"train_loss":1.1002229452133179,"lr":0.0019042071927315826}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":1.0,"green":0.0,"red":0.0},"confusion_matrix":[[6,0,0],[6,0,0],[0,6,0]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',29,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(7,'bafd9021bb53bf0b',6,'complete','{"lr":0.0038568262770828773,"optimizer":"adam"}','27af247c9e3311846e0e4d67d96275768d3385dd9cf27ab1284c1760e767e20e',6.11111111111111160454e-01,'finite','{"accuracy":0.6111111111111112,"precision":0.4871794871794872,"recall":0.6111111111111112,"f1":0.5135566188197767,"loss":0.9685512118869357,"train_loss":0.994798227151235,"lr":0.0038568262770828773}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":0.0,"green":1.0,"red":0.8333333333333334},"confusion_matrix":[[0,6,0],[0,6,0],[0,1,5]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',32,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(8,'bafd9021bb53bf0b',7,'complete','{"lr":0.00014016907816835644,"optimizer":"adam"}','ecd011444643e34b1a1732d2da0d1a6d5054f830f55feb38cf9cc51360c1dc2f',3.88888888888888895056e-01,'finite','{"accuracy":0.3888888888888889,"precision":0.45098039215686275,"recall":0.3888888888888889,"f1":0.2691511387163561,"loss":1.0292445288764105,"train_loss":1.032414118448893,"lr":0.00014016907816835644}',3,1,0,6,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":8},"pace":{"samples_per_second":4663.78610519263,"seconds_left":0.0,"memory":855961600,"utilization":0.566359075190039,"seconds":{"data":0.022883141001329932,"features":16.114875471998857,"forward":0.01053585600311635,"backward":0.00470776800011663,"measure":0.009977739999158075,"waiting":0.0,"control":0.006},"saved_seconds":19.431299000038052},"per_class_recall":{"blue":0.0,"green":0.16666666666666666,"red":1.0},"confusion_matrix":[[0,0,6],[0,1,5],[0,0,6]],"train_seconds":13.7738126309996,"peak_memory":1446952960}',35,1.79594240929630684852e+09,1.79594240929630684852e+09,1.79594242560298824303e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(9,'bafd9021bb53bf0b',8,'complete','{"lr":0.08311303692128176,"optimizer":"adam"}','2356f96589392e292c4eff4553e7c178edef14b88a62acef47d5296c980ed269',8.88888888888888839545e-01,'finite','{"accuracy":0.8888888888888888,"precision":0.9166666666666666,"recall":0.8888888888888888,"f1":0.8857142857142857,"loss":0.37536025047302246,"train_loss":0.7012700041135151,"lr":0.08311303692128176}',3,1,0,3,'box-22129-a68b68','[]',NULL,NULL,NULL,'confirmation','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":2},"pace":{"samples_per_second":9002.580139824075,"seconds_left":0.0,"memory":792186880,"utilization":0.7893604993050305,"seconds":{"data":0.05180760400071449,"features":0.013525592999940272,"forward":0.006087554001169337,"backward":0.0020014519986943924,"measure":0.014737024000169185,"waiting":0.0,"control":0.0},"saved_seconds":33.15057342503496},"per_class_recall":{"blue":0.6666666666666666,"green":1.0,"red":1.0},"confusion_matrix":[[4,0,2],[0,6,0],[0,0,6]],"train_seconds":0.03849378100130707,"peak_memory":792186880,"test":{"metrics":{"accuracy":0.75,"precision":0.8571428571428571,"recall":0.75,"f1":0.709090909090909,"loss":0.4092016803721587},"per_class_recall":{"blue":0.25,"green":1.0,"red":1.0},"confusion_matrix":[[1,0,3],[0,4,0],[0,0,4]],"predicted":"AgAAAAIAAgABAAEAAQABAAIAAgACAAIA","losses":"pDteOjg77DuYLBItASrOLBE0NzQuMoY0"}}',46,1.79594242567272424702e+09,1.79594242586233973505e+09,1.79594242884284853931e+09,0,1,1,NULL);
INSERT INTO "trial" VALUES(10,'bafd9021bb53bf0b',9,'complete','{"lr":0.0001,"optimizer":"adam"}','7015c4058767471241b939a71f62575d3f78a93f4eb7188ec9dd9ed896594a0c',3.33333333333333314829e-01,'finite','{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.2919830746120877,"train_loss":1.2943151791890464,"lr":0.0001}',3,1,0,3,'box-22129-a68b68','[]',NULL,NULL,NULL,'confirmation','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":2},"pace":{"samples_per_second":9002.580139824075,"seconds_left":0.0,"memory":792186880,"utilization":0.7893604993050305,"seconds":{"data":0.05180760400071449,"features":0.013525592999940272,"forward":0.006087554001169337,"backward":0.0020014519986943924,"measure":0.014737024000169185,"waiting":0.0,"control":0.0},"saved_seconds":33.15057342503496},"per_class_recall":{"blue":0.0,"green":0.0,"red":1.0},"confusion_matrix":[[0,0,6],[0,0,6],[0,0,6]],"train_seconds":0.03849378100130707,"peak_memory":792186880,"test":{"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.2953141431013744},"per_class_recall":{"blue":0.0,"green":0.0,"red":1.0},"confusion_matrix":[[0,0,4],[0,0,4],[0,0,4]],"predicted":"AgACAAIAAgACAAIAAgACAAIAAgACAAIA","losses":"8zz+PAk9DT0LQP0/HED4P9E49zgWOeQ4"}}',48,1.79594242567272424702e+09,1.79594242586233973505e+09,1.79594242884284853931e+09,0,0,1,NULL);
INSERT INTO "trial" VALUES(11,'bafd9021bb53bf0b',10,'complete','{"lr":0.08311303692128176,"optimizer":"adam"}','2356f96589392e292c4eff4553e7c178edef14b88a62acef47d5296c980ed269',7.22222222222222209886e-01,'finite','{"accuracy":0.7222222222222222,"precision":0.8055555555555555,"recall":0.7222222222222223,"f1":0.6476190476190476,"loss":0.5263397958543565,"train_loss":1.7152583519617717,"lr":0.08311303692128176}',3,1,0,2,'box-22129-a68b68','[]',NULL,NULL,NULL,'confirmation','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":2},"pace":{"samples_per_second":17679.27669781634,"seconds_left":0.0,"memory":848154624,"utilization":0.7426393583026331,"seconds":{"data":0.012920397001835227,"features":0.007061190998683742,"forward":0.0025006100004247855,"backward":0.0021527340004467987,"measure":0.0031041809997987,"waiting":0.0,"control":0.0},"saved_seconds":33.151783718035404},"per_class_recall":{"blue":0.16666666666666666,"green":1.0,"red":1.0},"confusion_matrix":[[1,2,3],[0,6,0],[0,0,6]],"train_seconds":0.01484532699942065,"peak_memory":848154624,"test":{"metrics":{"accuracy":0.6666666666666666,"precision":0.45714285714285713,"recall":0.6666666666666666,"f1":0.5387205387205387,"loss":0.5667770480116209},"per_class_recall":{"blue":0.0,"green":1.0,"red":1.0},"confusion_matrix":[[0,1,3],[0,4,0],[0,0,4]],"predicted":"AgACAAIAAQABAAEAAQABAAIAAgACAAIA","losses":"lTwdPIs8/TwCKbEpiiaWKWk4YDgrNtw4"}}',53,1.79594242567272424702e+09,1.79594242887922143935e+09,1795942428.95622,0,1,2,NULL);
INSERT INTO "trial" VALUES(12,'bafd9021bb53bf0b',11,'complete','{"lr":0.0001,"optimizer":"adam"}','7015c4058767471241b939a71f62575d3f78a93f4eb7188ec9dd9ed896594a0c',3.33333333333333314829e-01,'finite','{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.161955303615994,"train_loss":1.1675122340520223,"lr":0.0001}',3,1,0,2,'box-22129-a68b68','[]',NULL,NULL,NULL,'confirmation','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":195,"reuse":{"pixels":"cached","depth":4,"validation_depth":4,"place":"disk","lanes":2},"pace":{"samples_per_second":17679.27669781634,"seconds_left":0.0,"memory":848154624,"utilization":0.7426393583026331,"seconds":{"data":0.012920397001835227,"features":0.007061190998683742,"forward":0.0025006100004247855,"backward":0.0021527340004467987,"measure":0.0031041809997987,"waiting":0.0,"control":0.0},"saved_seconds":33.151783718035404},"per_class_recall":{"blue":1.0,"green":0.0,"red":0.0},"confusion_matrix":[[6,0,0],[6,0,0],[6,0,0]],"train_seconds":0.01484532699942065,"peak_memory":848154624,"test":{"metrics":{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":1.1629466712474823},"per_class_recall":{"blue":1.0,"green":0.0,"red":0.0},"confusion_matrix":[[4,0,0],[4,0,0],[4,0,0]],"predicted":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","losses":"5DnqOfY5/TkrPDE8HTwrPNA+zj7gPtA+"}}',56,1.79594242567272424702e+09,1.79594242887922143935e+09,1795942428.95622,0,0,2,NULL);
INSERT INTO "trial" VALUES(13,'c1314511aa1238d1',0,'complete','{"lr":0.0003,"optimizer":"adam","weight_decay":1e-06}','9f7cec16eac1f4b8d992230793fb90d24c11106b8074268659f94d3510d14bcf',1.0,'finite','{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.612393750084771,"train_loss":0.7348711609840393,"lr":0.0003}',3,1,0,4,'box-22129-a68b68','[]',NULL,NULL,NULL,'user','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":299.856959234136,"seconds_left":0.0,"memory":855166976,"utilization":0.4640622365927688,"seconds":{"data":0.04370037699845852,"features":0.0,"forward":0.20335843600150838,"backward":0.3290184839988797,"measure":0.06458525700054452,"waiting":0.14351629199973104,"control":0.114},"saved_seconds":0.0},"per_class_recall":{"blue":1.0,"green":1.0,"red":1.0},"confusion_matrix":[[6,0,0],[0,6,0],[0,0,6]],"train_seconds":0.6250339829994118,"peak_memory":855166976}',18,1.79594242939248251913e+09,1795942430.09208,1.79594243096373128894e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(14,'c1314511aa1238d1',1,'failed','{"lr":100.0,"optimizer":"sgd","momentum":0.9,"weight_decay":10.0}','3e59ba622b4da00312d99f1a21199c44920adb0322d4d1af569577a851e47158',NULL,'missing','{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":"pos_inf","train_loss":4.49078721330191e+17,"lr":100.0}',1,1,0,3,'box-22129-a68b68','[]','diverged','the training loss was nan in batch 3 of epoch 2, at a learning rate of 100',NULL,'user','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":177.81245831964367,"seconds_left":0.39711031400111096,"memory":855179264,"utilization":0.5108146915708325,"seconds":{"data":0.03834335900046426,"features":0.0,"forward":0.06736360500053706,"backward":0.0939406110010168,"measure":0.027913832000194816,"waiting":0.0,"control":0.0},"saved_seconds":0.0}}',23,1.79594242942000770569e+09,1.79594243102425622947e+09,1.79594243153421473501e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(15,'c1314511aa1238d1',2,'complete','{"lr":0.001,"optimizer":"adam","weight_decay":1e-06}','e4f13105ba9ef9994d88e2a4bd8dca760871201b302ece8febb6a93b4af709a1',9.44444444444444419772e-01,'finite','{"accuracy":0.9444444444444444,"precision":0.9523809523809524,"recall":0.9444444444444445,"f1":0.9440559440559442,"loss":0.314236667421129,"train_loss":0.43725826144218444,"lr":0.001}',3,1,0,4,'box-22129-a68b68','[]',NULL,NULL,NULL,'user','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":94.58136785889297,"seconds_left":0.0,"memory":855244800,"utilization":0.21085067268393648,"seconds":{"data":0.03362696600106574,"features":0.0,"forward":0.25838483599818574,"backward":0.463763677003044,"measure":0.11045021999962046,"waiting":0.07380117800130392,"control":0.076},"saved_seconds":0.0},"per_class_recall":{"blue":0.8333333333333334,"green":1.0,"red":1.0},"confusion_matrix":[[5,0,1],[0,6,0],[0,0,6]],"train_seconds":0.8516367399988667,"peak_memory":855244800}',31,1.79594242945446300511e+09,1.79594243157087373732e+09,1.79594243256444382672e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(16,'c1314511aa1238d1',3,'pruned','{"lr":0.1,"optimizer":"adam","weight_decay":1e-06}','799a04a4f60bc056791244f49426ad0da62d955cbe0ad4b3505df2acc47b5e2f',6.66666666666666629659e-01,'finite','{"accuracy":0.6666666666666666,"precision":0.5,"recall":0.6666666666666666,"f1":0.5555555555555555,"loss":14.539176093207466,"train_loss":0.4900696794191996,"lr":0.1}',2,1,0,3,'box-22129-a68b68','[]',NULL,'The best accuracy up to step 2 is 0.666667, below the median of 2 complete trials at that step: 0.833333.',NULL,'user','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":200.5185516688078,"seconds_left":0.18387199500011775,"memory":855248896,"utilization":0.3284322100930285,"seconds":{"data":0.08013774100072624,"features":0.0,"forward":0.09077194899873575,"backward":0.13128689100085467,"measure":0.02521428999989439,"waiting":0.10231188800025848,"control":0.041},"saved_seconds":0.0},"evidence":{"rule":{"name":"median","n_startup_trials":2,"n_warmup_steps":0,"interval_steps":1,"n_min_trials":1},"metric":"accuracy","direction":"maximize","step":2,"value":0.6666666666666666,"kind":"finite","rung":null,"bracket":null,"threshold":0.8333333333333333,"peers":[{"number":2,"value":0.6666666666666666},{"number":0,"value":1.0}],"peers_total":2,"sentence":"The best accuracy up to step 2 is 0.666667, below the median of 2 complete trials at that step: 0.833333."}}',37,1.79594242948556494709e+09,1.79594243264798545832e+09,1.79594243321441030501e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(17,'c1314511aa1238d1',4,'cancelled','{"lr":0.0001,"optimizer":"adam","weight_decay":1e-06}','444d8b55cc00d1bcb582edbd7630e1bc4c3c248451309bd137105fdab1d9dc12',NULL,'missing','{}',0,0,0,0,NULL,'[]',NULL,NULL,NULL,'user','{}','{}',8,1.7959424295207874775e+09,NULL,1.7959424295683977604e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(18,'c1314511aa1238d1',5,'complete','{"lr":0.03626005032850692,"optimizer":"sgd","momentum":0.07919113315684596,"weight_decay":5.393459345358967e-06}','55f041da63b5667b564e21b562ffc48bb339922b43ffc7c81ce869a7dba94f21',1.0,'finite','{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.5757022433810763,"train_loss":0.7338597178459167,"lr":0.03626005032850692}',3,1,0,4,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":391.3004977699046,"seconds_left":0.0,"memory":855248896,"utilization":0.6647574112441691,"seconds":{"data":0.023347497999566258,"features":0.0,"forward":0.13104391299839335,"backward":0.19276351899952715,"measure":0.04547617399930459,"waiting":0.06906310200065491,"control":0.073},"saved_seconds":0.0},"per_class_recall":{"blue":1.0,"green":1.0,"red":1.0},"confusion_matrix":[[6,0,0],[0,6,0],[0,0,6]],"train_seconds":0.38582597600088775,"peak_memory":855248896}',45,1.79594243328042793266e+09,1.79594243328042793266e+09,1.79594243383916711805e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(19,'c1314511aa1238d1',6,'pruned','{"lr":0.14875108931596964,"optimizer":"adam","weight_decay":0.0432264963732324}','d4b585e3d04b6f0a7925ad79ca485fab6dc756b81e68827c386831e13a890b0b',3.33333333333333314829e-01,'finite','{"accuracy":0.3333333333333333,"precision":0.1111111111111111,"recall":0.3333333333333333,"f1":0.16666666666666666,"loss":8.668628268771702,"train_loss":2.139804685115814,"lr":0.14875108931596964}',1,1,0,2,'box-22129-a68b68','[]',NULL,'The best accuracy up to step 1 is 0.333333, below the median of 3 complete trials at that step: 0.666667.',NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":542.3028685227313,"seconds_left":0.1359107900007075,"memory":855248896,"utilization":0.9858438655640314,"seconds":{"data":0.027331750999110227,"features":0.0,"forward":0.02034818699939933,"backward":0.03282549300001847,"measure":0.011458304999905522,"waiting":0.0,"control":0.0},"saved_seconds":0.0},"evidence":{"rule":{"name":"median","n_startup_trials":2,"n_warmup_steps":0,"interval_steps":1,"n_min_trials":1},"metric":"accuracy","direction":"maximize","step":1,"value":0.3333333333333333,"kind":"finite","rung":null,"bracket":null,"threshold":0.6666666666666666,"peers":[{"number":0,"value":0.6666666666666666},{"number":2,"value":0.6111111111111112},{"number":5,"value":0.8333333333333334}],"peers_total":3,"sentence":"The best accuracy up to step 1 is 0.333333, below the median of 3 complete trials at that step: 0.666667."}}',49,1.79594243385668087009e+09,1.79594243385668087009e+09,1795942433.99088,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(20,'c1314511aa1238d1',7,'pruned','{"lr":0.00019647370474566763,"optimizer":"adam","weight_decay":0.167953073484492}','11e1b7f19ea00e3d41e3b801a56fee9af242a094d3693a6e0eebe53d52ed4b78',3.88888888888888895056e-01,'finite','{"accuracy":0.3888888888888889,"precision":0.45098039215686275,"recall":0.3888888888888889,"f1":0.2691511387163561,"loss":1.0583709081013997,"train_loss":1.066799028714498,"lr":0.00019647370474566763}',1,1,0,2,'box-22129-a68b68','[]',NULL,'The best accuracy up to step 1 is 0.388889, below the median of 3 complete trials at that step: 0.666667.',NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":379.7773426183346,"seconds_left":0.18569808799838938,"memory":855248896,"utilization":0.840837857420129,"seconds":{"data":0.015470901000298909,"features":0.0,"forward":0.02702070699979231,"backward":0.04993604600076651,"measure":0.012482858000112174,"waiting":0.0,"control":0.0},"saved_seconds":0.0},"evidence":{"rule":{"name":"median","n_startup_trials":2,"n_warmup_steps":0,"interval_steps":1,"n_min_trials":1},"metric":"accuracy","direction":"maximize","step":1,"value":0.3888888888888889,"kind":"finite","rung":null,"bracket":null,"threshold":0.6666666666666666,"peers":[{"number":0,"value":0.6666666666666666},{"number":2,"value":0.6111111111111112},{"number":5,"value":0.8333333333333334}],"peers_total":3,"sentence":"The best accuracy up to step 1 is 0.388889, below the median of 3 complete trials at that step: 0.666667."}}',53,1.79594243403152060509e+09,1.79594243403152060509e+09,1.79594243421017289163e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(21,'32f66e01ecd8b41c',0,'complete','{"lr":0.004043878009515107,"optimizer":"sgd","momentum":0.3477946309224197}','88a6164488d29e6c9121c6234a6150866b23fffba2c2265d0d0f88ffd33ca04d',6.11111111111111160454e-01,'finite','{"accuracy":0.6111111111111112,"precision":0.8205128205128206,"recall":0.611111111111111,"f1":0.5724310776942355,"loss":0.9210602442423502,"train_loss":0.9595590750376384,"lr":0.004043878009515107}',3,1,0,2,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":47027,"reuse":{"pixels":"cached","depth":0,"validation_depth":0,"place":"none","lanes":1},"pace":{"samples_per_second":371.8280280521124,"seconds_left":0.0,"memory":855252992,"utilization":0.750077230523096,"seconds":{"data":0.04765318499812565,"features":0.0,"forward":0.08823531300186005,"backward":0.15584314399984578,"measure":0.0654400399998849,"waiting":0.0,"control":0.0},"saved_seconds":0.0},"per_class_recall":{"blue":1.0,"green":0.6666666666666666,"red":0.16666666666666666},"confusion_matrix":[[6,0,0],[2,4,0],[5,0,1]],"train_seconds":0.32972328399955586,"peak_memory":855252992}',6,1.7959424344889068604e+09,1.7959424344889068604e+09,1.79594243490211749074e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(22,'32f66e01ecd8b41c',1,'cancelled','{"lr":0.08311303692128176,"optimizer":"adam"}','2356f96589392e292c4eff4553e7c178edef14b88a62acef47d5296c980ed269',NULL,'missing','{}',0,1,0,1,'box-22129-a68b68','[]',NULL,NULL,NULL,'sampler','{}','{}',8,1.79594243499097943302e+09,1.79594243499097943302e+09,1.79594243506733751295e+09,0,NULL,NULL,NULL);
INSERT INTO "trial" VALUES(23,'527b768a5704dd89',0,'running','{"lr":0.001,"optimizer":"adam"}','e4aa077b09eac3efff8e94272fe605d895ed62e6b20ece763a0ef05708611772',NULL,'missing','{"accuracy":1.0,"precision":1.0,"recall":1.0,"f1":1.0,"loss":0.5621954600016276,"train_loss":0.7782894174257914,"lr":0.001}',2,1,0,12,'box-22129-a68b68','[{"step":2,"path":"/data/golden/home/checkpoints/527b768a5704dd89/0/e1/epoch-000002.pt","sha256":"8eca59f167f6aa0e64ef65da2e7e6c9e7ecc58800bfb15706226c797b0eadd5a","size":576123},{"step":1,"path":"/data/golden/home/checkpoints/527b768a5704dd89/0/e1/epoch-000001.pt","sha256":"3ca49ec5de2f79d41c85249d105aed45bdf707507179158b621bb43eb5261071","size":576123}]',NULL,NULL,NULL,'user','{}','{"environment":{"python":"3.11.7","torch":"2.14.1+cu130","torchvision":"0.29.1+cu130","numpy":"2.4.6","pillow":"13.0.0","safetensors":"0.8.0","thawline":"0.1.0","device":"AMD EPYC","threads":"1","precision":"float32","tf32":"off","accelerator":"cpu"},"trainable":46563,"reuse":{"pixels":"cached","depth":1,"validation_depth":1,"place":"disk","lanes":1},"pace":{"samples_per_second":2.255150470561649,"seconds_left":84637.66375705475,"memory":1187934208,"utilization":0.8623040443191519,"seconds":{"data":0.2333846759984226,"features":5.810364400001163,"forward":11.33331157700104,"backward":15.366807403999701,"measure":7.0295855719996325,"waiting":0.0,"control":0.107},"saved_seconds":-3.1068791319803495}}',13,1.79594243554205822946e+09,1.79594243587140059469e+09,NULL,0,NULL,NULL,NULL);
CREATE TABLE unavailable (
	study_id VARCHAR(16) NOT NULL, 
	worker VARCHAR(128) NOT NULL, 
	what VARCHAR(8) NOT NULL, 
	detail TEXT NOT NULL, 
	since DOUBLE NOT NULL, 
	PRIMARY KEY (study_id, worker), 
	CONSTRAINT ck_unavailable_what CHECK (what IN ('data', 'weights')), 
	FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
CREATE TABLE worker (
	id VARCHAR(128) NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	slots INTEGER NOT NULL, 
	devices JSON NOT NULL, 
	memory JSON, 
	state VARCHAR(16) NOT NULL, 
	started_at DOUBLE NOT NULL, 
	seen_at DOUBLE NOT NULL, set_aside INTEGER DEFAULT '0' NOT NULL, device_names JSON, unusable JSON, 
	PRIMARY KEY (id), 
	CONSTRAINT ck_worker_state CHECK (state IN ('alive', 'draining', 'gone'))
);
INSERT INTO "worker" VALUES('box-22129-a68b68','box',22129,1,'["cpu"]','[25276063744]','alive',1795942399.28813,1.79594247511605334278e+09,0,'["CPU"]','[]');
CREATE INDEX ix_idempotency_at ON idempotency (at);
CREATE INDEX ix_study_state ON study (state);
CREATE INDEX ix_trial_study_id_changed ON trial (study_id, changed);
CREATE INDEX ix_trial_study_id_params_key ON trial (study_id, params_key);
CREATE INDEX ix_trial_study_id_state ON trial (study_id, state);
CREATE TRIGGER trial_end_absorbs BEFORE UPDATE ON trial WHEN OLD.state IN ('complete', 'pruned', 'failed', 'cancelled')
BEGIN SELECT RAISE(ABORT, 'a trial that has ended never changes'); END;
CREATE INDEX ix_idempotency_study_id ON idempotency (study_id);
COMMIT;
